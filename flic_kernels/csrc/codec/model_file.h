// A model's file without Python: what flic/model/weights.py reads, from the same bytes.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/floats.h"
#include "codec/file_contents.h"

namespace flic::codec {

class Json;

struct Tensor {
    const float* data;
    std::vector<int64_t> shape;
    size_t count() const;
};

// A safetensors file that flic wrote.
class ModelFile {
  public:
    // Both throw Error where the file is damaged, or has what is neither float32, float16 nor
    // bfloat16; nothing in it is trusted.
    explicit ModelFile(const char* path);
    ModelFile(const void* data, size_t size);  // not copied; outlives this
    ~ModelFile();
    ModelFile(const ModelFile&) = delete;
    ModelFile& operator=(const ModelFile&) = delete;

    // By name. What follows from the rest (is_derived in flic/model/names.py) is left out, but for
    // the constants of GDN's parameters, which are there whether or not the file has them.
    const std::map<std::string, Tensor>& tensors() const { return tensors_; }
    // A text of the metadata; null where there is none.
    const std::string* metadata(const std::string& key) const;
    // The first 8 bytes of SHA-256 over names, shapes and float32 values, as fingerprint() in
    // flic/model/weights.py; computed with every call, in one pass over the values.
    std::array<uint8_t, 8> fingerprint() const;

  private:
    void read(const uint8_t* data, size_t size);
    void read_metadata(const Json& texts);
    Tensor read_tensor(const Json& entry, const uint8_t* values, size_t size);
    void add_reparametrisation();

    std::unique_ptr<FileContents> file_;  // null: the caller's memory
    uint64_t claimed_ = 0;                // bytes of all tensors so far
    std::vector<Floats> made_;            // values that do not lie in the file as they are used
    std::map<std::string, Tensor> tensors_;
    std::map<std::string, std::string> metadata_;
};

}  // namespace flic::codec
