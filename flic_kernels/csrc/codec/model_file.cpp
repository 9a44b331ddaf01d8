#include "codec/model_file.h"

#include <math.h>
#include <string.h>

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <string_view>

#include "base/errors.h"
#include "codec/half.h"
#include "codec/json.h"
#include "codec/sha256.h"

namespace flic::codec {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are used as they lie in the file");

constexpr size_t kLength = 8;  // bytes that tell the header's length
constexpr size_t kMostHeader = size_t{1} << 26;
constexpr uint64_t kMostClaimed = 2;  // bytes of all tensors, to those of the file: each is widened

[[noreturn]] void refuse(const std::string& what) { throw Error(FLIC_BAD_ARGUMENT, what); }

bool starts_with(std::string_view text, std::string_view start) {
    return text.substr(0, start.size()) == start;
}

bool ends_with(std::string_view text, std::string_view end) {
    return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// is_derived in flic/model/names.py.
bool is_derived(std::string_view name) {
    if (starts_with(name, "gaussian_conditional.")) return true;
    for (const auto end : {".relative_position_index", ".pedestal", ".bound"}) {
        if (ends_with(name, end)) return true;
    }
    constexpr std::string_view kBottleneck = "entropy_bottleneck.";
    if (!starts_with(name, kBottleneck)) return false;
    const std::string_view buffer = name.substr(kBottleneck.size());
    return buffer == "_offset" || buffer == "_quantized_cdf" || buffer == "_cdf_length" ||
           buffer == "target";
}

// A name of the file's own for one line of text.
std::string printable(const std::string& name) {
    constexpr size_t kMost = 80;
    std::string text = name.substr(0, kMost);
    std::replace_if(text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    return name.size() > kMost ? text + "..." : text;
}

uint64_t load64(const uint8_t* from) {
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

int64_t whole_number(const Json& value) {
    constexpr double kMost = int64_t{1} << 53;  // from here on a double skips numbers
    const double* number = value.number();
    if (!number || !(*number >= 0 && *number < kMost) || *number != floor(*number)) {
        refuse("wants whole numbers in shape and data_offsets");
    }
    return static_cast<int64_t>(*number);
}

std::vector<int64_t> whole_numbers(const Json* values) {
    if (!values || !values->array()) refuse("wants lists as shape and data_offsets");
    std::vector<int64_t> numbers;
    for (const Json& value : *values->array()) numbers.push_back(whole_number(value));
    return numbers;
}

size_t checked_count(const std::vector<int64_t>& shape) {
    size_t count = 1;
    for (const int64_t side : shape) {
        if (side > 0 && count > std::numeric_limits<size_t>::max() / static_cast<size_t>(side)) {
            refuse("has more values than can be counted");
        }
        count *= static_cast<size_t>(side);
    }
    return count;
}

using Widen = void (*)(const uint8_t* from, size_t count, float* to);

void copy_float32(const uint8_t* from, size_t count, float* to) {
    if (count > 0) memcpy(to, from, count * sizeof *to);
}

struct Type {
    const char* name;
    size_t size;
    Widen widen;
};

constexpr Type kTypes[] = {
    {"F32", 4, copy_float32}, {"F16", 2, widen_float16}, {"BF16", 2, widen_bfloat16}};

const Type& find_type(const Json* name) {
    if (!name || !name->string()) refuse("has no dtype");
    for (const Type& type : kTypes) {
        if (*name->string() == type.name) return type;
    }
    refuse("is of type " + printable(*name->string()) + ", not F32, F16 or BF16");
}

bool lies_as_float(const uint8_t* values) {
    return reinterpret_cast<uintptr_t>(values) % alignof(float) == 0;
}

}  // namespace

size_t Tensor::count() const {
    size_t count = 1;
    for (const int64_t side : shape) count *= static_cast<size_t>(side);
    return count;
}

ModelFile::ModelFile(const char* path) : file_(std::make_unique<FileContents>(path)) {
    try {
        read(file_->data(), file_->size());
    } catch (const Error& error) {
        throw Error(error.status, std::string(path) + ": " + error.what());
    }
}

ModelFile::ModelFile(const void* data, size_t size) {
    read(static_cast<const uint8_t*>(data), size);
}

ModelFile::~ModelFile() = default;

void ModelFile::read(const uint8_t* data, size_t size) {
    if (size < kLength) refuse("not a safetensors file: too short");
    const uint64_t length = load64(data);
    if (length > kMostHeader || length > size - kLength) {
        refuse("not a safetensors file: its header is longer than the file, or than 64 MiB");
    }
    const uint8_t* const text = data + kLength;
    const size_t header_size = static_cast<size_t>(length);
    const Json header = Json::parse({reinterpret_cast<const char*>(text), header_size});
    if (!header.object()) refuse("not a safetensors file: its header is no object");
    for (const auto& [name, entry] : *header.object()) {
        if (name == "__metadata__") {
            read_metadata(entry);
        } else if (!is_derived(name)) {
            try {
                const size_t rest = size - kLength - header_size;
                tensors_.emplace(name, read_tensor(entry, text + header_size, rest));
            } catch (const Error& error) {
                refuse("tensor " + printable(name) + " " + error.what());
            }
        }
    }
    add_reparametrisation();
}

void ModelFile::read_metadata(const Json& texts) {
    if (!texts.object()) refuse("its metadata is no object");
    for (const auto& [key, text] : *texts.object()) {
        if (!text.string()) refuse("its metadata has " + printable(key) + ", which is no text");
        metadata_.emplace(key, *text.string());
    }
}

Tensor ModelFile::read_tensor(const Json& entry, const uint8_t* values, size_t size) {
    const Type& type = find_type(entry.find("dtype"));
    Tensor tensor = {nullptr, whole_numbers(entry.find("shape"))};
    const std::vector<int64_t> offsets = whole_numbers(entry.find("data_offsets"));
    if (offsets.size() != 2) refuse("wants two data_offsets");
    const uint64_t begin = static_cast<uint64_t>(offsets[0]);
    const uint64_t end = static_cast<uint64_t>(offsets[1]);
    if (begin > end || end > size) refuse("lies outside the file");
    claimed_ += end - begin;
    if (claimed_ > kMostClaimed * size) refuse("shares its values with too many others");
    const size_t count = checked_count(tensor.shape), bytes = static_cast<size_t>(end - begin);
    if (bytes % type.size != 0 || bytes / type.size != count) {
        refuse("has not the size that it claims");
    }
    const uint8_t* const from = values + begin;
    if (type.widen == copy_float32 && lies_as_float(from)) {
        tensor.data = reinterpret_cast<const float*>(from);
    } else {
        const Floats& made = made_.emplace_back(count, Floats::Fill::none);
        type.widen(from, count, made.get());
        tensor.data = made.get();
    }
    return tensor;
}

// The constants of CompressAI's NonNegativeParametrizer, as weights.py makes them: the pedestal and
// the square root of the least value that a parameter has with it.
void ModelFile::add_reparametrisation() {
    static const double kPedestal = ldexp(1.0, -36);
    static const float kPedestals[] = {static_cast<float>(kPedestal)};
    static const float kBetaBound[] = {static_cast<float>(sqrt(1e-6 + kPedestal))};
    static const float kGammaBound[] = {static_cast<float>(sqrt(kPedestal))};
    std::map<std::string, Tensor> made;
    for (const auto& item : tensors_) {
        const std::string& name = item.first;
        const bool is_beta = ends_with(name, "gdn.beta");
        if (!is_beta && !ends_with(name, "gdn.gamma")) continue;
        made[name + "_reparam.pedestal"] = {kPedestals, {1}};
        made[name + "_reparam.lower_bound.bound"] = {is_beta ? kBetaBound : kGammaBound, {1}};
    }
    tensors_.merge(made);
}

const std::string* ModelFile::metadata(const std::string& key) const {
    const auto found = metadata_.find(key);
    return found == metadata_.end() ? nullptr : &found->second;
}

std::array<uint8_t, 8> ModelFile::fingerprint() const {
    Sha256 hash;
    for (const auto& [name, tensor] : tensors_) {
        if (is_derived(name)) continue;
        hash.update(name.c_str(), name.size() + 1);
        hash.update(tensor.shape.data(), tensor.shape.size() * sizeof(int64_t));
        hash.update(tensor.data, tensor.count() * sizeof(float));
    }
    const std::array<uint8_t, 32> digest = hash.digest();
    std::array<uint8_t, 8> first;
    std::copy_n(digest.begin(), first.size(), first.begin());
    return first;
}

}  // namespace flic::codec
