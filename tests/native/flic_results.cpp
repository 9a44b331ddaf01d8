// Checks what flic.h says about files and pictures; tests/codec/test_c_library.py runs it.
//
//     flic_results CHECK MODEL
#include "flic_api.h"

namespace {

void memory() {
    const Picture picture(150, 90);
    const Bytes file = encoded(picture), pixels = decoded(file);
    Bytes contents = read(path);
    contents.insert(contents.begin(), 0);  // where floats do not lie as they are used
    FlicModel* const other = model;
    const FlicOptions two = options(2);
    FINE(flic_model_open_memory(contents.data() + 1, contents.size() - 1, &two, &model));
    FlicModelInfo infos[2];
    FINE(flic_model_info(model, &infos[0]));
    FINE(flic_model_info(other, &infos[1]));
    REQUIRE(!std::memcmp(&infos[0], &infos[1], sizeof infos[0]));
    REQUIRE(!std::strcmp(flic_model_metadata(model, "format"), "flic"));
    REQUIRE(!flic_model_metadata(model, "no such key"));
    REQUIRE(encoded(picture) == file && decoded(file) == pixels);
    flic_model_close(model);
    model = other;
    for (size_t size : {size_t{0}, size_t{7}, size_t{5000}, contents.size() - 2}) {
        FlicModel* none = nullptr;
        FAILS(FLIC_BAD_MODEL, flic_model_open_memory(contents.data() + 1, size, nullptr, &none));
        REQUIRE(!none);
    }
}

void threads() {
    const Picture whole(300, 200), tall(130, 400);
    const Bytes files[] = {encoded(whole), encoded(tall, 128)};
    const Bytes pixels[] = {decoded(files[0]), decoded(files[1])};
    for (int count = 1; count <= 3; ++count) {
        const FlicOptions given = options(count);
        REQUIRE(encoded(whole, FLIC_TILE_AUTO, 1, &given) == files[0]);
        REQUIRE(encoded(tall, 128, 1, &given) == files[1]);
        REQUIRE(decoded(files[0], &given) == pixels[0] && decoded(files[1], &given) == pixels[1]);
    }
    std::vector<std::thread> at_once;
    for (int i = 0; i < 2; ++i) {
        at_once.emplace_back([&, i] {
            const FlicOptions given = options(1 + i);
            for (int round = 0; round < 3; ++round) {
                REQUIRE(encoded(whole, FLIC_TILE_AUTO, 1, &given) == files[0]);
                REQUIRE(decoded(files[1], &given) == pixels[1]);
                FlicHeader header;  // its failures are this thread's alone
                if (i) BAD(flic_header(nullptr, 0, &header));
                if (!i) REQUIRE(!*flic_error());
            }
        });
    }
    for (auto& thread : at_once) thread.join();
    FlicOptions narrow = options(2);
    narrow.bfloat16 = 1;
    const Bytes other = encoded(whole, FLIC_TILE_AUTO, 1, &narrow);
    REQUIRE(other != files[0] && near(decoded(other), pixels[0]));
    REQUIRE(near(decoded(files[0], &narrow), pixels[0]) && decoded(files[0]) == pixels[0]);
}

void shapes() {
    const int sizes[][2] = {{1, 1}, {127, 1}, {1, 129}, {129, 257}, {128, 128}};
    for (const auto& [width, height] : sizes) {
        for (const int channels : {1, 3}) {
            const Picture dense(width, height, channels), apart(width, height, channels, 37);
            const Bytes file = encoded(dense);
            REQUIRE(encoded(apart) == file);
            const FlicHeader header = header_of(file);
            REQUIRE(header.width == width && header.height == height && header.step == 1);
            REQUIRE(header.channels == channels && header.tile == 0 && header.version == 1);
            FINE(flic_verify(model, file.data(), file.size(), nullptr));
            const Bytes pixels = decoded(file);
            REQUIRE(near(pixels, dense.samples));
            Picture out(width, height, channels, 5);
            const Bytes before = out.samples;
            FINE(flic_decode(model, file.data(), file.size(), nullptr, nullptr, &out.image));
            const size_t row = static_cast<size_t>(width) * channels;
            for (size_t y = 0; y < static_cast<size_t>(height); ++y) {
                const size_t at = y * (row + 5);
                REQUIRE(!std::memcmp(&out.samples[at], &pixels[y * row], row));
                REQUIRE(!std::memcmp(&out.samples[at + row], &before[at + row], 5));
            }
        }
    }
}

void regions() {
    for (const int channels : {1, 3}) {
        for (const int tile : {FLIC_TILE_NONE, 128, 256}) {
            const Picture picture(300, 270, channels);
            const Bytes file = encoded(picture, tile), whole = decoded(file);
            REQUIRE(header_of(file).tile == (tile > 0 ? tile : 0));
            REQUIRE(near(whole, picture.samples));
            const FlicRegion all[] = {
                {0, 0, 300, 270}, {299, 269, 1, 1}, {100, 90, 60, 70}, {0, 0, 128, 128}};
            for (const FlicRegion& region : all) {
                Bytes part;
                for (int y = region.y; y < region.y + region.height; ++y) {
                    const auto row = whole.begin() + (y * 300 + region.x) * channels;
                    part.insert(part.end(), row, row + region.width * channels);
                }
                REQUIRE(decoded(file, nullptr, &region) == part);
            }
        }
    }
}

void sections() {
    const Bytes alpha(1000, 1), icc(1, 2);
    const FlicSections given = {{alpha.data(), alpha.size()}, {icc.data(), 1}, {alpha.data(), 0}};
    const Bytes file = encoded(Picture(20, 30), FLIC_TILE_AUTO, 2.5f, nullptr, &given);
    const FlicHeader header = header_of(file);
    const FlicSections& found = header.sections;
    REQUIRE(header.step == 2.5f && header.version == 3);
    REQUIRE(Bytes(found.alpha.data, found.alpha.data + found.alpha.size) == alpha);
    REQUIRE(found.icc.size == 1 && *found.icc.data == 2);
    REQUIRE(found.exif.data && found.exif.size == 0);
    REQUIRE(found.alpha.data > file.data() && found.exif.data < file.data() + file.size());
    const FlicHeader plain = header_of(encoded(Picture(20, 30)));
    REQUIRE(!plain.sections.alpha.data && !plain.sections.icc.data && !plain.sections.exif.data);
    FlicModelInfo info;
    FINE(flic_model_info(model, &info));
    REQUIRE(!std::memcmp(info.fingerprint, header.fingerprint, 8));
    const Bytes large((size_t{1} << 25) + 1);  // no reader takes more
    const FlicSections too_large = {{}, {large.data(), large.size()}, {}};
    const Picture picture(20, 30);
    FlicEncoder* const encoder = encoder_of(picture);
    size_t size;
    BAD(flic_encoder_code(encoder, 1, &too_large, nullptr, &size));
    flic_encoder_free(encoder);
}

void steps() {
    const Picture picture(200, 300);
    for (const int tile : {FLIC_TILE_NONE, 128}) {
        FlicEncoder* const encoder = encoder_of(picture, tile, 1);
        for (const float step : {1.0f, 64.0f, 0.25f, 1.0f / 64, 1.0f}) {
            const Bytes file = coded(encoder, step);
            REQUIRE(file == encoded(picture, tile, step));
            Picture out(200, 300);
            FINE(flic_encoder_picture(encoder, nullptr, &out.image));
            REQUIRE(out.samples == decoded(file));
        }
        size_t size = 0;
        BAD(flic_encoder_code(encoder, 0, nullptr, nullptr, &size));
        flic_encoder_free(encoder);
    }
}

}  // namespace

int main(int argc, char** argv) {
    return check(argc, argv,
                 {{"memory", memory},
                  {"threads", threads},
                  {"shapes", shapes},
                  {"regions", regions},
                  {"sections", sections},
                  {"steps", steps}});
}
