// Runs the exact engine on one picture, for machines without Python: reads weights and latents from
// stdin as exact_models.dump writes them, writes every result to stdout as raw float32.
//
// Argument: the number of threads.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <string>
#include <vector>

#include "include/flic_kernels.h"

namespace {

void check(int status) {
    if (status) {
        fprintf(stderr, "status %d: %s\n", status, flic_exact_error());
        exit(1);
    }
}

template <class T>
std::vector<T> read(size_t count) {
    std::vector<T> values(count);
    if (fread(values.data(), sizeof(T), count, stdin) != count) {
        fprintf(stderr, "the input ends early\n");
        exit(1);
    }
    return values;
}

int32_t read_int() { return read<int32_t>(1)[0]; }

void write(const std::vector<float>& values) {
    fwrite(values.data(), sizeof(float), values.size(), stdout);
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<int32_t> config = read<int32_t>(7);
    const int count = read_int();
    std::vector<std::string> names;
    std::vector<std::vector<float>> weights;
    for (int i = 0; i < count; ++i) {
        const std::vector<char> name = read<char>(read_int());
        names.emplace_back(name.begin(), name.end());
        weights.push_back(read<float>(read_int()));
    }
    std::vector<const char*> name_pointers;
    std::vector<const float*> data;
    std::vector<int64_t> sizes;
    for (int i = 0; i < count; ++i) {
        name_pointers.push_back(names[i].c_str());
        data.push_back(weights[i].data());
        sizes.push_back(static_cast<int64_t>(weights[i].size()));
    }
    const int height = read_int(), width = read_int();  // of y
    const size_t pixels = static_cast<size_t>(height) * width;
    const int latent = config[3], slices = config[4], ratio = config[5];
    const std::vector<float> z = read<float>(config[0] * pixels / 16),
                             y = read<float>(latent * pixels);

    FlicEngine* engine;
    FlicPicture* picture;
    check(flic_exact_create(config.data(), 7, name_pointers.data(), data.data(), sizes.data(),
                            count, -1, argc > 1 ? atoi(argv[1]) : 1, &engine));
    std::vector<float> means(latent * pixels), scales(latent * pixels);
    check(flic_exact_hyper(engine, z.data(), height / 4, width / 4, means.data(), scales.data()));
    write(means);
    write(scales);
    check(flic_exact_begin(engine, means.data(), scales.data(), height, width, &picture));
    const size_t size = latent / slices * pixels;
    for (int i = 0; i < slices; ++i) {
        std::vector<float> out[3], hidden(size * ratio);
        for (auto& values : out) values.resize(size);
        const float* const previous = i ? y.data() + (i - 1) * size : nullptr;
        check(flic_exact_slice(picture, i, previous, out[0].data(), out[1].data(), out[2].data()));
        check(flic_exact_hidden(picture, hidden.data(), static_cast<int64_t>(hidden.size())));
        for (const auto& values : out) write(values);
        write(hidden);
    }
    check(flic_exact_end(picture));
    check(flic_exact_destroy(engine));
    return 0;
}
