#include "codec/slice_loop.h"

#include <math.h>
#include <stdio.h>

#include <algorithm>
#include <memory>
#include <string>

#include "base/float_environment.h"
#include "codec/crc32.h"
#include "rans/container.h"

namespace flic::codec {
namespace {

constexpr float kLimit = 1 << 24;  // integers below are exact in float32

#if defined(FLIC_FUZZED)  // what only a forger's checks let through is to be reached
constexpr bool kChecks = false;
#else
constexpr bool kChecks = true;
#endif

struct Size {
    int height, width;
    size_t area() const { return static_cast<size_t>(height) * width; }
};

// [channels][from] with its border repeated outwards.
void extend(const float* x, int channels, Size from, const Margins& m, float* out) {
    const int height = from.height + m.top + m.bottom;
    for (int c = 0; c < channels; ++c, x += from.area()) {
        for (int row = 0; row < height; ++row) {
            const float* const line =
                x + static_cast<size_t>(std::clamp(row - m.top, 0, from.height - 1)) * from.width;
            out = std::fill_n(out, m.left, line[0]);
            out = std::copy(line, line + from.width, out);
            out = std::fill_n(out, m.right, line[from.width - 1]);
        }
    }
}

// What of features [channels][height][width] with margins is the tile's, in place and dense.
void cut(float* x, int channels, Size inside, const Margins& m) {
    if (!m.any()) return;
    const int height = inside.height + m.top + m.bottom, width = inside.width + m.left + m.right;
    float* to = x;
    for (int c = 0; c < channels; ++c) {
        const float* const plane = x + static_cast<size_t>(c) * height * width;
        for (int row = 0; row < inside.height; ++row) {
            const float* const line = plane + static_cast<size_t>(row + m.top) * width + m.left;
            to = std::copy(line, line + inside.width, to);
        }
    }
}

// The integers of float32 values by a step.
std::vector<int32_t> rounded(const Floats& values, float step, const char* name) {
    std::vector<int32_t> out(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
        const float value = values[i] / step;
        if (!(fabsf(value) < kLimit)) {
            throw Error(FLIC_NOT_FINITE, std::string("the latents ") + name +
                                             " hold NaN, infinity or absurd values");
        }
        out[i] = static_cast<int32_t>(rintf(value));
    }
    return out;
}

uint32_t crc_of(uint32_t before, const std::vector<int32_t>& values) {
    return crc32(before, values.data(), values.size() * sizeof(int32_t));
}

// g_s's input.
void correct(const int32_t* y, const float* corrections, size_t count, float step, float* out) {
    for (size_t i = 0; i < count; ++i) {
        out[i] = step * (static_cast<float>(y[i]) + 0.5f * tanhf(corrections[i]));
    }
}

// One end of the loop. next(): the next integers, known or read; count of them, by the tables at
// `indexes`, about `centers` (null: about 0).
class Writer {
  public:
    Writer(const std::vector<int32_t>& z, const std::vector<int32_t>& y) : z_(z), y_(y) {}

    void next(const int32_t* indexes, const int32_t* centers, size_t count,
              const FlicTables& tables, int32_t* out) {
        const bool first = pushes_.empty();
        const int32_t* const from = first ? z_.data() : y_.data() + taken_;
        std::copy(from, from + count, out);
        if (!first) taken_ += count;
        auto& [symbols, kept] = arrays_.emplace_back();
        symbols.assign(from, from + count);
        if (centers) {
            for (size_t i = 0; i < count; ++i) symbols[i] -= centers[i];
        }
        kept.assign(indexes, indexes + count);
        pushes_.push_back(
            {symbols.data(), kept.data(), static_cast<int64_t>(count), &tables, 4, 4});
    }
    void guard(uint16_t check) { checks_.push_back(check); }
    std::vector<uint8_t> finish() {
        FlicBytes* bytes = nullptr;
        const int status =
            flic_rans_encode(pushes_.data(), static_cast<int64_t>(pushes_.size()), 0, 0, &bytes);
        if (status != FLIC_OK) throw Error(status, "the entropy coder failed");
        const std::unique_ptr<FlicBytes> payload(bytes);
        return pack_stream(
            {crc_of(crc_of(0, z_), y_), checks_, {payload->data(), payload->size()}});
    }

  private:
    const std::vector<int32_t>&z_, &y_;
    size_t taken_ = 0;
    std::vector<std::pair<std::vector<int32_t>, std::vector<int32_t>>> arrays_;
    std::vector<FlicPush> pushes_;
    std::vector<uint16_t> checks_;
};

[[noreturn]] void undecodable(const std::string& why) {
    throw Error(FLIC_MISMATCH, "the stream does not decode: " + why);
}

const char* coder_failure(int status) {
    switch (status) {
        case FLIC_CORRUPT_HEADER: return "corrupt stream: the header is malformed";
        case FLIC_CORRUPT_STATES: return "corrupt stream: lane states are malformed";
        case FLIC_CORRUPT_WORDS: return "corrupt stream: words run out";
        case FLIC_CORRUPT_ESCAPE: return "corrupt stream: an escape is malformed or missing";
        case FLIC_CORRUPT_END: return "corrupt stream: wrong end state, or data left over";
        case FLIC_CORRUPT_PULLS: return "corrupt stream: more or fewer pulls than pushes";
        default: return "the entropy decoder failed";
    }
}

class Reader {
  public:
    Reader(const Stream& stream) : stream_(stream) {
        FlicDecoder* made = nullptr;
        check(flic_rans_decoder_new(stream.payload.data, static_cast<int64_t>(stream.payload.size),
                                    &made));
        decoder_.reset(made);
    }

    void next(const int32_t* indexes, const int32_t* centers, size_t count,
              const FlicTables& tables, int32_t* out) {
        check(flic_rans_decoder_pull(decoder_.get(), indexes, 4, static_cast<int64_t>(count),
                                     &tables, out));
        if (centers) {
            for (size_t i = 0; i < count; ++i) {
                out[i] = static_cast<int32_t>(static_cast<uint32_t>(out[i]) +
                                              static_cast<uint32_t>(centers[i]));
            }
        }
        crc_ = crc32(crc_, out, count * sizeof *out);
    }
    void guard(uint16_t check) {
        if (kChecks && check != stream_.checks[slice_]) {
            throw Error(FLIC_MISMATCH, "slice " + std::to_string(slice_) +
                                           " of the stream has other table indexes on this machine "
                                           "than on the one that made it");
        }
        ++slice_;
    }
    void finish() {
        check(flic_rans_decoder_close(decoder_.get()));
        if (kChecks && crc_ != stream_.latents_crc) {
            throw Error(FLIC_MISMATCH,
                        "the stream decodes to other latents on this machine than on the one that "
                        "made it");
        }
    }

  private:
    struct Free {
        void operator()(FlicDecoder* decoder) const { flic_rans_decoder_free(decoder); }
    };
    static void check(int status) {
        if (status == FLIC_OUT_OF_MEMORY) throw std::bad_alloc();
        if (status != FLIC_OK) undecodable(coder_failure(status));
    }

    const Stream& stream_;
    std::unique_ptr<FlicDecoder, Free> decoder_;
    uint32_t crc_ = 0;
    size_t slice_ = 0;
};

// Both ends of coding run this; gives g_s's input.
template <class End>
Floats slice_loop(const Model& model, End& end, const Tile& tile, float step, const Work& work) {
    const FlicModelInfo& info = model.info();
    const Margins around = tile.margins().at(16), z_around = tile.margins().at(64);
    const Size inside = {tile.core.height() / 16, tile.core.width() / 16};
    const Size whole = {tile.coded.height() / 16, tile.coded.width() / 16};
    const Size z_inside = {inside.height / 4, inside.width / 4};
    const Size z_whole = {whole.height / 4, whole.width / 4};
    const int channels = model.slice_channels();
    const Model::Lease engine(model, work.threads());

    std::vector<int32_t> indexes(info.hyper * z_inside.area());
    for (size_t i = 0; i < indexes.size(); ++i) {
        indexes[i] = static_cast<int32_t>(i / z_inside.area());
    }
    std::vector<int32_t> symbols(indexes.size());
    end.next(indexes.data(), nullptr, indexes.size(), model.z_tables(), symbols.data());
    Floats z_hat(indexes.size(), Floats::Fill::none);
    for (size_t i = 0; i < indexes.size(); ++i) {
        z_hat[i] = static_cast<float>(symbols[i]) + model.medians()[i / z_inside.area()];
    }
    Floats extended(info.hyper * z_whole.area(), Floats::Fill::none);
    extend(z_hat.get(), info.hyper, z_inside, z_around, extended.get());

    const size_t features = info.latent * whole.area();
    Floats means(features, Floats::Fill::none), scales(features, Floats::Fill::none);
    (*engine).hyper(extended.get(), z_whole.height, z_whole.width, means.get(), scales.get());
    work.go_on();
    exact::Picture picture(*engine, means.get(), scales.get(), whole.height, whole.width);
    const size_t count = channels * inside.area(), known = channels * whole.area();
    Floats corrections(known, Floats::Fill::none), previous(known, Floats::Fill::none);
    Floats values(count, Floats::Fill::none), y_hat(info.slices * count, Floats::Fill::none);
    std::vector<int32_t> centers(count);
    indexes.resize(count);
    symbols.resize(count);
    const GaussianCoder& coder = gaussian_coder();
    for (int slice = 0; slice < info.slices; ++slice) {
        picture.slice(slice, previous.get(), means.get(), scales.get(), corrections.get());
        work.go_on();
        for (float* const part : {means.get(), scales.get(), corrections.get()}) {
            cut(part, channels, inside, around);
        }
        for (size_t i = 0; step != 1 && i < count; ++i) {
            means[i] /= step;
            scales[i] /= step;
        }
        const int status = flic_rans_gaussian_indexes(
            means.get(), scales.get(), static_cast<int64_t>(count), coder.grid.row_first.data(),
            coder.grid.row_size.data(), coder.grid.cells.data(), indexes.data(), centers.data());
        if (status != FLIC_OK) throw Error(status, "T-CA's means and scales hold NaN or infinity");
        const uint32_t crc = crc_of(crc_of(0, indexes), centers);
        end.guard(static_cast<uint16_t>(crc));
        end.next(indexes.data(), centers.data(), count, *coder.tables, symbols.data());
        correct(symbols.data(), corrections.get(), count, step, y_hat.get() + slice * count);
        for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(symbols[i]) * step;
        extend(values.get(), channels, inside, around, previous.get());
    }
    return y_hat;
}

// T-CA keeps keys and values of all slices but the last.
void need_memory(const Model& model, const Tile& tile, const Work& work) {
    const FlicModelInfo& info = model.info();
    const int height = tile.coded.height(), width = tile.coded.width();
    work.need(int64_t{4} * 2 * info.depth * (info.slices - 1) * model.slice_channels() *
                  info.ratio * (height / 16) * (width / 16),
              height, width);
}

// A symbol of frequency f costs about log2(2^15 / f) bits. A state of integers can do a little
// better than that, never twice as well, hence the half.
void check_length(const Model& model, size_t payload, const Tile& tile) {
    const double positions = (tile.core.height() / 64.0) * (tile.core.width() / 64.0);
    const double bits = positions * model.least_z_bits() +
                        16 * positions * model.info().latent * gaussian_coder().least_bits;
    if (8.0 * static_cast<double>(payload) < bits / 2) {
        throw Error(FLIC_BAD_FILE, "the stream is damaged: " + std::to_string(payload) +
                                       " bytes cannot hold a picture of " +
                                       std::to_string(tile.core.width()) + "x" +
                                       std::to_string(tile.core.height()));
    }
}

}  // namespace

Coded code(const Model& model, const Unrounded& analysed, const Tile& tile, float step,
           const Work& work) {
    const FloatEnvironment environment;
    need_memory(model, tile, work);
    const std::vector<int32_t> y = rounded(analysed.y, step, "y");
    const std::vector<int32_t> z = rounded(analysed.z, 1, "z");
    Writer writer(z, y);
    Floats y_hat = slice_loop(model, writer, tile, step, work);
    return {writer.finish(), std::move(y_hat)};
}

Floats decode(const Model& model, const Section& data, const Tile& tile, float step,
              const Work& work) {
    const FloatEnvironment environment;
    need_memory(model, tile, work);
    const Stream stream = unpack_stream(data);
    const size_t slices = model.info().slices;
    if (stream.checks.size() != slices) {
        throw Error(FLIC_MISMATCH, "the stream has " + std::to_string(stream.checks.size()) +
                                       " slices, the model " + std::to_string(slices));
    }
    check_length(model, stream.payload.size, tile);
    try {
        Reader reader(stream);
        Floats y_hat = slice_loop(model, reader, tile, step, work);
        reader.finish();
        return y_hat;
    } catch (const Error& error) {  // NaN from absurd integers
        if (error.status == FLIC_NOT_FINITE) undecodable(error.what());
        throw;
    }
}

}  // namespace flic::codec

// y_hat of integers and T-CA's corrections, for what codes without flic.h: its pictures are the
// same.
FLIC_API int flic_correct(const int32_t* y, const float* corrections, int64_t count, float step,
                          float* out) {
    if (count < 0 || !y || !corrections || !out) return FLIC_BAD_ARGUMENT;
    const flic::FloatEnvironment environment;
    flic::codec::correct(y, corrections, static_cast<size_t>(count), step, out);
    return FLIC_OK;
}
