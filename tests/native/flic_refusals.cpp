// Checks what flic.h says about calls that do not succeed; tests/codec/test_c_library.py runs it.
//
//     flic_refusals CHECK MODEL SECONDS
//
// SECONDS: in which a call that is stopped must end.
#include "flic_api.h"

namespace {

double seconds;

int count_up(void* user, int32_t done, int32_t parts) {
    int* const told = static_cast<int*>(user);
    ++told[0];
    if (done != told[0] || parts < done) std::exit(3);
    told[1] = parts;
    return told[2] == done;
}

void limits() {
    const Picture picture(200, 300);
    const Bytes file = encoded(picture, 128);
    FlicEncoder* const encoder = encoder_of(picture, 128);
    int told[3] = {};
    FlicOptions given = options(1);
    given.memory_limit = 1000;
    Picture out(200, 300);
    size_t size = 0;
    FAILS(FLIC_MEMORY_LIMIT, flic_encoder_code(encoder, 1, nullptr, &given, &size));
    const uint8_t* const data = file.data();
    FAILS(FLIC_MEMORY_LIMIT, flic_verify(model, data, file.size(), &given));
    FAILS(FLIC_MEMORY_LIMIT, flic_decode(model, data, file.size(), nullptr, &given, &out.image));
    given.memory_limit = int64_t{1} << 40;
    given.progress = count_up;
    given.user = told;
    REQUIRE(coded(encoder, 1, &given) == file && told[0] == 6 && told[1] == 6);
    told[0] = 0;
    REQUIRE(decoded(file, &given).size() == 180000 && told[0] == 12 && told[1] == 12);
    for (told[2] = 1; told[2] <= 6; ++told[2]) {
        told[0] = 0;
        FAILS(FLIC_STOPPED, flic_verify(model, data, file.size(), &given));
        REQUIRE(told[0] == told[2]);
    }
    Bytes small(file.size() - 1);
    FAILS(FLIC_BUFFER_TOO_SMALL, flic_encoder_file(encoder, small.data(), small.size()));
    REQUIRE(file_of(encoder, file.size()) == file);
    flic_encoder_free(encoder);
}

// Long work that ends soon after another thread asks it to, and what comes after it is as ever.
template <class Call>
void stops(const char* what, const Call& call) {
    int32_t stop = 1;
    FlicOptions given = options(2);
    given.stop = &stop;
    FAILS(FLIC_STOPPED, call(&given));  // at once
    stop = 0;
    Clock::time_point asked;
    std::thread other([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        asked = Clock::now();
        __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    });
    const int status = call(&given);
    const Clock::time_point end = Clock::now();
    other.join();
    const std::chrono::duration<double> took = end - asked;
    std::fprintf(stderr, "%s: status %d after %.3f s\n", what, status, took.count());
    FAILS(FLIC_STOPPED, status);
    REQUIRE(took.count() > 0 && took.count() < seconds);
    int told[3] = {0, 0, 1};
    given.stop = nullptr;
    given.progress = count_up;
    given.user = told;
    FAILS(FLIC_STOPPED, call(&given));
    REQUIRE(told[0] == 1);
}

void stopping() {
    const Picture large(2048, 1920), small(300, 200);
    const Bytes small_file = encoded(small), small_pixels = decoded(small_file);
    const auto as_ever = [&] {
        REQUIRE(encoded(small) == small_file && decoded(small_file) == small_pixels);
    };
    const FlicOptions two = options(2);
    for (const int tile : {FLIC_TILE_NONE, 512}) {
        FlicEncoder* const encoder = encoder_of(large, tile, 1);
        size_t size;
        stops("encoder_code", [&](const FlicOptions* given) {
            return flic_encoder_code(encoder, 1, nullptr, given, &size);
        });
        as_ever();
        const Bytes file = coded(encoder, 1, &two);
        Picture out(2048, 1920);
        stops("encoder_picture", [&](const FlicOptions* given) {
            return flic_encoder_picture(encoder, given, &out.image);
        });
        as_ever();
        stops("decode", [&](const FlicOptions* given) {
            return flic_decode(model, file.data(), file.size(), nullptr, given, &out.image);
        });
        as_ever();
        REQUIRE(coded(encoder, 1) == file);
        flic_encoder_free(encoder);
    }
    const int32_t stop = 1;
    FlicOptions given = {};
    given.stop = &stop;
    FlicModel* none = nullptr;
    FAILS(FLIC_STOPPED, flic_model_open(path, &given, &none));
}

// What is told of progress calls the library itself.
void again() {
    struct Calls {
        Bytes file, pixels;
        int32_t stop;
    } calls = {encoded(Picture(20, 30)), {}, 0};
    calls.pixels = decoded(calls.file);
    const Bytes file = encoded(Picture(300, 200), 128), pixels = decoded(file);
    FlicOptions given = {};
    given.user = &calls;
    given.stop = &calls.stop;
    given.progress = [](void* user, int32_t, int32_t) {
        const Calls& known = *static_cast<Calls*>(user);
        const int32_t stop = 1;
        FlicOptions stopped = {};
        stopped.stop = &stop;
        FAILS(FLIC_STOPPED, flic_verify(model, known.file.data(), known.file.size(), &stopped));
        REQUIRE(decoded(known.file) == known.pixels);
        return 0;
    };
    REQUIRE(decoded(file, &given) == pixels);
    given.progress = [](void* user, int32_t, int32_t) {
        Calls& known = *static_cast<Calls*>(user);
        REQUIRE(!known.stop);
        REQUIRE(decoded(known.file) == known.pixels);
        known.stop = 1;
        return 0;
    };
    FAILS(FLIC_STOPPED, flic_verify(model, file.data(), file.size(), &given));
}

void arguments() {
    FlicModel* none = nullptr;
    Picture picture(20, 30);
    FlicImage* const image = &picture.image;
    const Bytes bytes = encoded(picture), contents = read(path);
    const uint8_t* const file = bytes.data();
    const size_t size = bytes.size();
    FlicEncoder *encoder = encoder_of(picture), *other = nullptr;
    size_t length;
    BAD(flic_model_open(nullptr, nullptr, &none));
    BAD(flic_model_open(path, nullptr, nullptr));
    FAILS(FLIC_BAD_MODEL, flic_model_open("/no/such/file", nullptr, &none));
    BAD(flic_model_open_memory(nullptr, 100, nullptr, &none));
    BAD(flic_model_open_memory(contents.data(), contents.size(), nullptr, nullptr));
    FlicModelInfo info;
    BAD(flic_model_info(nullptr, &info));
    BAD(flic_model_info(model, nullptr));
    REQUIRE(!flic_model_metadata(nullptr, "format") && !flic_model_metadata(model, nullptr));
    FlicHeader header;
    BAD(flic_header(nullptr, 10, &header));
    BAD(flic_header(file, size, nullptr));
    FAILS(FLIC_TRUNCATED, flic_header(file, 0, &header));
    FAILS(FLIC_BAD_FILE, flic_header(contents.data(), contents.size(), &header));
    BAD(flic_verify(nullptr, file, size, nullptr));
    BAD(flic_verify(model, nullptr, size, nullptr));
    BAD(flic_decode(nullptr, file, size, nullptr, nullptr, image));
    BAD(flic_decode(model, nullptr, size, nullptr, nullptr, image));
    BAD(flic_decode(model, file, size, nullptr, nullptr, nullptr));
    constexpr int32_t kMost = INT32_MAX, kLeast = INT32_MIN;
    for (const FlicRegion& region :
         {FlicRegion{0, 0, 0, 1}, FlicRegion{-1, 0, 20, 30}, FlicRegion{0, 0, 21, 30},
          FlicRegion{kMost, 0, 20, 30}, FlicRegion{kLeast, kLeast, kMost, kMost},
          FlicRegion{1, 0, kMost, 30}, FlicRegion{0, 0, 10, 10}}) {
        BAD(flic_decode(model, file, size, &region, nullptr, image));
    }
    uint8_t* const samples = picture.samples.data();
    for (const FlicImage& wrong :
         {FlicImage{nullptr, 0, 20, 30, 3}, FlicImage{samples, 59, 20, 30, 3},
          FlicImage{samples, -60, 20, 30, 3}, FlicImage{samples, 0, 30, 20, 3},
          FlicImage{samples, 0, 20, 30, 1}}) {
        BAD(flic_decode(model, file, size, nullptr, nullptr, &wrong));
    }
    for (const FlicImage& wrong :
         {FlicImage{nullptr, 0, 20, 30, 3}, FlicImage{samples, 59, 20, 30, 3},
          FlicImage{samples, -60, 20, 30, 3}, FlicImage{samples, 0, 0, 30, 3},
          FlicImage{samples, 0, 20, -1, 3}, FlicImage{samples, 0, 20, 30, 2},
          FlicImage{samples, 0, 65536, 1, 3}, FlicImage{samples, 0, kMost, kMost, 3},
          FlicImage{samples, 0, kLeast, kLeast, 3}}) {
        BAD(flic_encoder_new(model, &wrong, FLIC_TILE_AUTO, 0, &other));
    }
    for (const int tile : {-2, 1, 100, 129, kMost, kLeast}) {
        BAD(flic_encoder_new(model, image, tile, 0, &other));
    }
    BAD(flic_encoder_new(nullptr, image, FLIC_TILE_AUTO, 0, &other));
    BAD(flic_encoder_new(model, nullptr, FLIC_TILE_AUTO, 0, &other));
    BAD(flic_encoder_new(model, image, FLIC_TILE_AUTO, 0, nullptr));
    for (const float step : {0.0f, -1.0f, 0.015f, 64.1f, NAN, INFINITY}) {
        BAD(flic_encoder_code(encoder, step, nullptr, nullptr, &length));
    }
    BAD(flic_encoder_code(nullptr, 1, nullptr, nullptr, &length));
    BAD(flic_encoder_code(encoder, 1, nullptr, nullptr, nullptr));
    BAD(flic_encoder_file(nullptr, picture.samples.data(), 100));
    BAD(flic_encoder_file(encoder, nullptr, 100));
    BAD(flic_encoder_file(encoder, picture.samples.data(), 100));  // nothing has been coded
    coded(encoder, 1);
    BAD(flic_encoder_picture(encoder, nullptr, image));  // codes but once
    BAD(flic_encoder_picture(nullptr, nullptr, image));
    BAD(flic_encoder_picture(encoder, nullptr, nullptr));
    flic_encoder_free(encoder);
    encoder = encoder_of(picture, FLIC_TILE_AUTO, 1);
    BAD(flic_encoder_picture(encoder, nullptr, image));  // not yet
    FlicOptions wrong[] = {options(-1), options(257), options(kLeast), options(1), options(1)};
    wrong[3].memory_limit = -1;
    wrong[4].bfloat16 = 2;
    for (const FlicOptions& given : wrong) {
        BAD(flic_model_open(path, &given, &none));
        BAD(flic_encoder_code(encoder, 1, nullptr, &given, &length));
        BAD(flic_verify(model, file, size, &given));
        BAD(flic_decode(model, file, size, nullptr, &given, image));
        BAD(flic_encoder_picture(encoder, &given, image));
    }
    flic_encoder_free(encoder);
    flic_encoder_free(nullptr);
    flic_model_close(nullptr);
    REQUIRE(!none && !other && encoded(Picture(20, 30)) == bytes);
}

}  // namespace

int main(int argc, char** argv) {
    seconds = argc > 3 ? std::atof(argv[3]) : 0;
    return check(
        argc, argv,
        {{"limits", limits}, {"stopping", stopping}, {"again", again}, {"arguments", arguments}});
}
