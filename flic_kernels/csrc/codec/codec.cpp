#include "codec/codec.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <string>

#include "base/float_environment.h"
#include "base/pool.h"

namespace flic::codec {
namespace {

constexpr double kFade = 8;  // pixels in which padding falls to 1/e of its difference to the mean

FlicImage checked(const FlicImage& image) {
    require(image.pixels, "the picture has no samples");
    check_size(image.width, image.height, FLIC_BAD_ARGUMENT);
    require(image.channels == 1 || image.channels == 3, "a picture has 1 or 3 channels");
    FlicImage dense = image;
    const int64_t row = int64_t{image.width} * image.channels;
    if (!image.stride) dense.stride = row;
    require(dense.stride >= row, "a picture's rows overlap");
    return dense;
}

const uint8_t* pixel(const FlicImage& image, int y, int x) {
    return image.pixels + y * image.stride + int64_t{x} * image.channels;
}

// The picture inside a box, [height][width][3] in [0, 1], continued to the right and below: the
// last column and row fade into the mean within a few pixels, which costs few bits (`python -m
// benches padding`).
Floats padded(const FlicImage& image, const Box& box, const float* mean, int threads) {
    Floats out(static_cast<size_t>(box.height()) * box.width() * 3, Floats::Fill::none);
    std::vector<float> kept(std::max(box.bottom - image.height, 0) +
                            std::max(box.right - image.width, 0) + 2);  // 1 - what fades
    for (size_t i = 0; i < kept.size(); ++i) {
        kept[i] = 1.0f - static_cast<float>(exp(static_cast<double>(i) / -kFade));
    }
    const int step = image.channels == 3 ? 1 : 0;
    team(threads).run(box.height(), [&](int row, int) {
        float* to = out.get() + static_cast<size_t>(row) * box.width() * 3;
        const int y = box.top + row, below = std::max(y - image.height + 1, 0);
        const int inside_y = std::min(y, image.height - 1);
        for (int x = box.left; x < box.right; ++x, to += 3) {
            const uint8_t* const from = pixel(image, inside_y, std::min(x, image.width - 1));
            const int distance = below + std::max(x - image.width + 1, 0);
            for (int c = 0; c < 3; ++c) {
                const float value = static_cast<float>(from[c * step]) / 255.0f;
                to[c] = distance ? value + (mean[c] - value) * kept[distance] : value;
            }
        }
    });
    return out;
}

// Samples of pixels in [0, 1], 0 and 255 for what lies beyond; false where one is NaN or infinity.
bool to_samples(const float* x, int count, int channels, uint8_t* to) {
    constexpr float kRounds = 12582912.0f;  // 1.5 2^23: adding it rounds to an integer
    float sum = 0;                          // NaN where any is NaN or infinity
    if (channels == 3) {
        for (int i = 0; i < 3 * count; ++i) {
            sum += x[i] * 0.0f;
            const float value = std::min(std::max(x[i], 0.0f), 1.0f) * 255.0f;
            to[i] = static_cast<uint8_t>(static_cast<int32_t>((value + kRounds) - kRounds));
        }
    } else {
        for (int i = 0; i < count; ++i, x += 3) {
            float value = 0;
            for (int c = 0; c < 3; ++c) {
                sum += x[c] * 0.0f;
                value += std::min(std::max(x[c], 0.0f), 1.0f);
            }
            value = value / 3.0f * 255.0f;
            to[i] = static_cast<uint8_t>(static_cast<int32_t>((value + kRounds) - kRounds));
        }
    }
    return sum == 0;
}

// A region [top, left ..] of a picture, where `out` lies.
struct Canvas {
    const FlicImage& out;
    Box region;
};

// The tiles that meet the canvas. y_hat: inside `hull`, [latent][height / 16][width / 16].
void draw(const Model& model, const Grid& grid, const Canvas& canvas, const float* y_hat,
          const Box& hull, int64_t done, int64_t parts, const Work& work) {
    const FlicImage& out = canvas.out;
    const int latent = model.info().latent;
    for (const int64_t i : grid.meeting(canvas.region)) {
        const Tile tile = grid[i];
        const Box box = tile.latents(), part = tile.core.common(canvas.region);
        Floats own;
        const float* given = y_hat;
        if (memcmp(&box, &hull, sizeof box) != 0) {
            const int height = box.height() / 16, width = box.width() / 16;
            own = Floats(static_cast<size_t>(latent) * height * width, Floats::Fill::none);
            const Margins off = box.margins_to(hull).at(16);
            const int hull_width = hull.width() / 16;
            const size_t plane = static_cast<size_t>(hull.height() / 16) * hull_width;
            float* to = own.get();
            for (int c = 0; c < latent; ++c) {
                for (int row = 0; row < height; ++row, to += width) {
                    const float* const from = y_hat + c * plane +
                                              static_cast<size_t>(off.top + row) * hull_width +
                                              off.left;
                    std::copy(from, from + width, to);
                }
            }
            given = own.get();
        }
        const Floats x_hat = model.synthesize(given, tile, work);
        std::atomic<bool> finite{true};
        team(work.threads()).run(part.height(), [&](int row, int) {
            const size_t y = part.top - tile.core.top + row, x = part.left - tile.core.left;
            const float* const from = x_hat.get() + (y * tile.core.width() + x) * 3;
            uint8_t* const to = out.pixels + (part.top - canvas.region.top + row) * out.stride +
                                int64_t{part.left - canvas.region.left} * out.channels;
            if (!to_samples(from, part.width(), out.channels, to)) finite = false;
        });
        work.go_on();
        if (!finite) {
            throw Error(FLIC_BAD_MODEL,
                        "the model cannot draw this picture: its pixels hold NaN or infinity");
        }
        work.progress(++done, parts);
    }
}

// The box around what drawing a region takes.
Box hull_of(const Grid& grid, const Box& region) {
    const std::vector<int64_t> drawn = grid.meeting(region);
    Box hull = grid[drawn.front()].latents();
    for (const int64_t i : drawn) hull = hull.around(grid[i].latents());
    return hull;
}

// Where the core of a tile meets the hull, its y_hat into the hull's.
void place(const Floats& from, const Box& core, int latent, const Box& hull, float* to) {
    const Box part = core.common(hull);
    const Margins in_core = part.margins_to(core).at(16), in_hull = part.margins_to(hull).at(16);
    const int height = part.height() / 16, width = part.width() / 16;
    const int core_width = core.width() / 16, hull_width = hull.width() / 16;
    const size_t core_plane = static_cast<size_t>(core.height() / 16) * core_width;
    const size_t hull_plane = static_cast<size_t>(hull.height() / 16) * hull_width;
    for (int c = 0; c < latent; ++c) {
        for (int row = 0; row < height; ++row) {
            const float* const line = from.get() + c * core_plane +
                                      static_cast<size_t>(in_core.top + row) * core_width +
                                      in_core.left;
            std::copy(line, line + width,
                      to + c * hull_plane + static_cast<size_t>(in_hull.top + row) * hull_width +
                          in_hull.left);
        }
    }
}

Floats decode_tile(const Model& model, const Container& file, int64_t i, const Work& work) {
    const Grid grid = file.grid();
    try {
        return decode(model, file.streams[i], grid[i], file.header.step, work);
    } catch (const Error& error) {
        const bool of_stream = error.status >= FLIC_BAD_FILE && error.status <= FLIC_MISMATCH;
        if (!file.header.tile || !of_stream) throw;
        throw Error(error.status, grid.name(i) + ": " + error.what());
    }
}

std::string hexadecimal(const uint8_t* bytes) {
    char text[17];
    for (int i = 0; i < 8; ++i) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return text;
}

// A file's fields, once it is known that this model made it.
Container opened(const Model& model, const uint8_t* data, size_t size) {
    Container file = unpack(data, size);
    const uint8_t *const theirs = file.header.fingerprint, *const ours = model.info().fingerprint;
    if (memcmp(theirs, ours, 8) != 0) {
        throw Error(FLIC_OTHER_MODEL, "the file was made with model " + hexadecimal(theirs) +
                                          ", the model given is " + hexadecimal(ours));
    }
    return file;
}

Box box_of(const FlicRegion& region, const FlicHeader& header) {
    if (region.x < 0 || region.y < 0 || region.width < 1 || region.height < 1 ||
        region.width > header.width - region.x || region.height > header.height - region.y) {
        throw Error(FLIC_BAD_ARGUMENT, "the region does not lie in the picture of " +
                                           std::to_string(header.width) + "x" +
                                           std::to_string(header.height));
    }
    return {region.y, region.x, region.y + region.height, region.x + region.width};
}

}  // namespace

Encoder::Encoder(const Model& model, const FlicImage& image, int tile, bool again)
    : model_(model),
      image_(checked(image)),
      tile_(choose_tile(image.height, image.width, tile)),
      grid_(image.height, image.width, tile_),
      again_(again) {
    uint64_t sums[3] = {};
    for (int y = 0; y < image_.height; ++y) {
        const uint8_t* from = pixel(image_, y, 0);
        for (int x = 0; x < image_.width; ++x, from += image_.channels) {
            for (int c = 0; c < image_.channels; ++c) sums[c] += from[c];
        }
    }
    const double count = static_cast<double>(image_.width) * image_.height;
    for (int c = 0; c < 3; ++c) {
        const auto sum = static_cast<double>(sums[image_.channels == 3 ? c : 0]);
        mean_[c] = static_cast<float>(sum / count / 255);
    }
}

Unrounded Encoder::analyse(const Tile& tile, const Work& work) const {
    const Floats x = padded(image_, tile.input(), mean_, work.threads());
    work.go_on();
    return model_.analyze(x.get(), tile, work);
}

void Encoder::code(float step, const FlicSections& sections, const Work& work) {
    const FloatEnvironment environment;
    check_step(step, FLIC_BAD_ARGUMENT);
    check_sections(sections, FLIC_BAD_ARGUMENT);
    model_.check_drawing();
    const int64_t tiles = grid_.size();
    if (again_ && static_cast<int64_t>(analysed_.size()) < tiles) {
        analysed_.clear();
        for (int64_t i = 0; i < tiles; ++i) {
            analysed_.push_back(analyse(grid_[i], work));
            work.progress(i + 1, 2 * tiles);
        }
    }
    std::vector<std::vector<uint8_t>> streams;
    y_hat_.clear();
    file_.clear();
    for (int64_t i = 0; i < tiles; ++i) {
        const Tile tile = grid_[i];
        Coded coded = again_ ? codec::code(model_, analysed_[i], tile, step, work)
                             : codec::code(model_, analyse(tile, work), tile, step, work);
        streams.push_back(std::move(coded.stream));
        if (again_) y_hat_.push_back(std::move(coded.y_hat));
        const int64_t before = again_ ? tiles : 0;  // what was analysed, now or in an earlier call
        work.progress(before + i + 1, before + tiles);
    }
    Container file = {};
    file.header.width = image_.width;
    file.header.height = image_.height;
    file.header.channels = image_.channels;
    file.header.tile = tile_;
    file.header.step = step;
    file.header.sections = sections;
    memcpy(file.header.fingerprint, model_.info().fingerprint, sizeof file.header.fingerprint);
    for (const auto& stream : streams) file.streams.push_back({stream.data(), stream.size()});
    file_ = pack(file);
}

void Encoder::picture(const Work& work, const FlicImage& asked) const {
    const FloatEnvironment environment;
    require(again_ && !file_.empty(), "only an encoder that codes again has its file's picture");
    const FlicImage out = checked(asked);
    require(
        out.width == image_.width && out.height == image_.height && out.channels == image_.channels,
        "the buffer is for another picture");
    const Box whole = {0, 0, out.height, out.width};
    const Box hull = hull_of(grid_, whole);
    const int latent = model_.info().latent;
    Floats y_hat(static_cast<size_t>(latent) * (hull.height() / 16) * (hull.width() / 16),
                 Floats::Fill::none);
    for (int64_t i = 0; i < grid_.size(); ++i) {
        place(y_hat_[i], grid_[i].core, latent, hull, y_hat.get());
    }
    draw(model_, grid_, {out, whole}, y_hat.get(), hull, 0, grid_.size(), work);
}

void decode(const Model& model, const uint8_t* data, size_t size, const FlicRegion* region,
            const Work& work, const FlicImage& asked) {
    const FloatEnvironment environment;
    const Container file = opened(model, data, size);
    model.check_drawing();
    const FlicHeader& header = file.header;
    const Box box =
        box_of(region ? *region : FlicRegion{0, 0, header.width, header.height}, header);
    const FlicImage out = checked(asked);
    require(
        out.width == box.width() && out.height == box.height() && out.channels == header.channels,
        "the buffer is for another picture or region");
    const Grid grid = file.grid();
    const std::vector<int64_t> needed = grid.streams_for(box);
    const auto parts = static_cast<int64_t>(needed.size() + grid.meeting(box).size());
    const Box hull = hull_of(grid, box);
    const int latent = model.info().latent;
    Floats y_hat;
    if (grid.size() > 1) {
        const size_t size =
            static_cast<size_t>(latent) * (hull.height() / 16) * (hull.width() / 16);
        work.need(static_cast<int64_t>(size * sizeof(float)), hull.height(), hull.width(),
                  "a region takes");
        y_hat = Floats(size, Floats::Fill::none);
    }
    int64_t done = 0;
    for (const int64_t i : needed) {
        Floats decoded = decode_tile(model, file, i, work);
        if (grid.size() > 1) {
            place(decoded, grid[i].core, latent, hull, y_hat.get());
        } else {
            y_hat = std::move(decoded);
        }
        work.progress(++done, parts);
    }
    draw(model, grid, {out, box}, y_hat.get(), hull, done, parts, work);
}

void verify(const Model& model, const uint8_t* data, size_t size, const Work& work) {
    const FloatEnvironment environment;
    const Container file = opened(model, data, size);
    const auto count = static_cast<int64_t>(file.streams.size());
    for (int64_t i = 0; i < count; ++i) {
        decode_tile(model, file, i, work);
        work.progress(i + 1, count);
    }
}

}  // namespace flic::codec
