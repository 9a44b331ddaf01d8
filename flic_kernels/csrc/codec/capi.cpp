// The public C interface, include/flic.h.
#include <string.h>

#include <memory>
#include <string>

#include "codec/codec.h"

using flic::Error;
using flic::require;
using flic::codec::Work;

struct FlicModel final : flic::codec::Model {
    using Model::Model;
};

struct FlicEncoder final : flic::codec::Encoder {
    using Encoder::Encoder;
};

namespace {

thread_local flic::LastError last_error;

template <class MakeFile>
int open_model(const void* from, const FlicOptions* options, FlicModel** out,
               const MakeFile& make_file) {
    return last_error.guard([&] {
        require(from && out, "null pointer");
        const Work work(options);
        try {
            auto model = std::make_unique<FlicModel>(make_file(), work.threads());
            work.go_on();
            *out = model.release();
        } catch (const Error& error) {
            const bool stopped = error.status == FLIC_STOPPED;
            throw Error(stopped ? FLIC_STOPPED : FLIC_BAD_MODEL, error.what());
        }
    });
}

}  // namespace

FLIC_API const char* flic_error(void) { return last_error.text(); }

FLIC_API int flic_model_open(const char* path, const FlicOptions* options, FlicModel** out) {
    return open_model(path, options, out,
                      [&] { return std::make_unique<flic::codec::ModelFile>(path); });
}

FLIC_API int flic_model_open_memory(const void* data, size_t size, const FlicOptions* options,
                                    FlicModel** out) {
    return open_model(data, options, out,
                      [&] { return std::make_unique<flic::codec::ModelFile>(data, size); });
}

FLIC_API void flic_model_close(FlicModel* model) { delete model; }

FLIC_API int flic_model_info(const FlicModel* model, FlicModelInfo* out) {
    return last_error.guard([&] {
        require(model && out, "null pointer");
        *out = model->info();
    });
}

FLIC_API const char* flic_model_metadata(const FlicModel* model, const char* key) {
    if (!model || !key) return nullptr;
    const std::string* const text = model->file().metadata(key);
    return text ? text->c_str() : nullptr;
}

FLIC_API int flic_header(const uint8_t* file, size_t size, FlicHeader* out) {
    return last_error.guard([&] {
        require(file && out, "null pointer");
        *out = flic::codec::unpack(file, size).header;
    });
}

FLIC_API int flic_decode(FlicModel* model, const uint8_t* file, size_t size,
                         const FlicRegion* region, const FlicOptions* options,
                         const FlicImage* out) {
    return last_error.guard([&] {
        require(model && file && out, "null pointer");
        decode(*model, file, size, region, Work(options), *out);
    });
}

FLIC_API int flic_verify(FlicModel* model, const uint8_t* file, size_t size,
                         const FlicOptions* options) {
    return last_error.guard([&] {
        require(model && file, "null pointer");
        verify(*model, file, size, Work(options));
    });
}

FLIC_API int flic_encoder_new(FlicModel* model, const FlicImage* image, int32_t tile, int32_t again,
                              FlicEncoder** out) {
    return last_error.guard([&] {
        require(model && image && out, "null pointer");
        *out = new FlicEncoder(*model, *image, tile, again != 0);
    });
}

FLIC_API int flic_encoder_code(FlicEncoder* encoder, float step, const FlicSections* sections,
                               const FlicOptions* options, size_t* size) {
    return last_error.guard([&] {
        require(encoder && size, "null pointer");
        encoder->code(step, sections ? *sections : FlicSections{}, Work(options));
        *size = encoder->file().size();
    });
}

FLIC_API int flic_encoder_file(const FlicEncoder* encoder, uint8_t* out, size_t capacity) {
    return last_error.guard([&] {
        require(encoder && out, "null pointer");
        const auto& file = encoder->file();
        require(!file.empty(), "nothing has been coded");
        if (file.size() > capacity) {
            throw Error(FLIC_BUFFER_TOO_SMALL,
                        "the file has " + std::to_string(file.size()) + " bytes");
        }
        memcpy(out, file.data(), file.size());
    });
}

FLIC_API int flic_encoder_picture(FlicEncoder* encoder, const FlicOptions* options,
                                  const FlicImage* out) {
    return last_error.guard([&] {
        require(encoder && out, "null pointer");
        encoder->picture(Work(options), *out);
    });
}

FLIC_API void flic_encoder_free(FlicEncoder* encoder) { delete encoder; }
