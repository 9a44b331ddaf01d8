// What codec/model_file.h and what it stands on make of files, for tests/codec/test_model_file.py.
//
//   model_file read FILE           tensors, metadata and fingerprint, a line each
//   model_file memory FILE SHIFT   the same from memory, SHIFT bytes after an aligned address
//   model_file json FILE           its JSON text, written again
//   model_file hashes FILE PIECE SIZE...    SHA-256 and CRC-32 of its first SIZE bytes, for each
//   model_file time FILE           the shortest time of a fingerprint in seconds, and that of
//   loading
//
// What is refused is one line on stderr, and the status is 1.
#include "codec/model_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>

#include "base/errors.h"
#include "codec/crc32.h"
#include "codec/json.h"
#include "codec/sha256.h"

namespace {

using namespace flic::codec;

// Exactly as much memory as the file has bytes, so that the address sanitizer sees what lies past
// its end.
struct Memory {
    Memory(const char* path, size_t shift) : file(path) {
        size = file.size();
        allocated = static_cast<uint8_t*>(malloc(shift + size + (size == 0)));
        data = allocated + shift;
        if (size > 0) memcpy(data, file.data(), size);
    }
    ~Memory() { free(allocated); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    FileContents file;
    size_t size;
    uint8_t *allocated, *data;
};

void print_quoted(const std::string& text) {
    putchar('"');
    for (const char c : text) {
        if (c == '"' || c == '\\' || (c >= 0 && c < ' ')) {
            printf("\\u%04x", static_cast<unsigned>(c));
        } else {
            putchar(c);
        }
    }
    putchar('"');
}

void print(const Json& value) {
    if (value.is_null()) {
        printf("null");
    } else if (const bool* boolean = value.boolean()) {
        printf(*boolean ? "true" : "false");
    } else if (const double* number = value.number()) {
        printf("%.17g", *number);
    } else if (const std::string* text = value.string()) {
        print_quoted(*text);
    } else if (const Json::Array* values = value.array()) {
        putchar('[');
        for (const Json& each : *values) {
            if (&each != values->data()) putchar(',');
            print(each);
        }
        putchar(']');
    } else {
        putchar('{');
        for (const auto& member : *value.object()) {
            if (&member != value.object()->data()) putchar(',');
            print_quoted(member.first);
            putchar(':');
            print(member.second);
        }
        putchar('}');
    }
}

// JSON of what weights.read has.
void print(const ModelFile& model) {
    printf("{\"tensors\":{");
    const char* comma = "";
    for (const auto& [name, tensor] : model.tensors()) {
        printf("%s", comma);
        print_quoted(name);
        printf(":{\"shape\":[");
        for (size_t i = 0; i < tensor.shape.size(); ++i) {
            printf(i > 0 ? ",%" PRId64 : "%" PRId64, tensor.shape[i]);
        }
        const uint32_t checksum = crc32(0, tensor.data, tensor.count() * sizeof(float));
        const bool aligned = reinterpret_cast<uintptr_t>(tensor.data) % alignof(float) == 0;
        printf("],\"crc32\":%" PRIu32 ",\"aligned\":%s}", checksum, aligned ? "true" : "false");
        comma = ",";
    }
    printf("},\"config\":");
    const std::string* config = model.metadata("config");
    if (config) {
        print_quoted(*config);
    } else {
        printf("null");
    }
    printf(",\"fingerprint\":\"");
    for (const uint8_t byte : model.fingerprint()) printf("%02x", byte);
    printf("\"}\n");
}

// In pieces of `piece` bytes; 0: of 1, 2, 3, ...
void print_hashes(const Memory& memory, size_t size, size_t piece) {
    Sha256 hash;
    uint32_t crc = 0;
    size_t next = std::max<size_t>(piece, 1);
    for (size_t done = 0; done < size;) {
        const size_t some = std::min(next, size - done);
        hash.update(memory.data + done, some);
        crc = crc32(crc, memory.data + done, some);
        done += some;
        next += piece == 0;
    }
    for (const uint8_t byte : hash.digest()) printf("%02x", byte);
    printf(" %" PRIu32 "\n", crc);
}

int run(const std::string& command, const char* path, int count, char** rest) {
    const auto number = [&](int i) { return static_cast<size_t>(strtoull(rest[i], nullptr, 10)); };
    if (command == "read") {
        print(ModelFile(path));
    } else if (command == "memory" && count == 1) {
        const Memory memory(path, number(0));
        print(ModelFile(memory.data, memory.size));
    } else if (command == "json") {
        const Memory memory(path, 0);
        print(Json::parse({reinterpret_cast<const char*>(memory.data), memory.size}));
    } else if (command == "hashes" && count >= 1) {
        const Memory memory(path, 0);
        for (int i = 1; i < count; ++i) print_hashes(memory, number(i), number(0));
    } else {
        return 2;
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) return 2;
    try {
        return run(argv[1], argv[2], argc - 3, argv + 3);
    } catch (const flic::Error& error) {
        fprintf(stderr, "error: %s\n", error.what());
        return error.status;
    }
}
