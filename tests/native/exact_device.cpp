// The CUDA engine's kernels run as host code, thread after thread: reads what exact_models.dump
// writes from stdin, writes the results of exact_run.cpp, without the hidden activations, to
// stdout.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <string>
#include <vector>

#include "../../flic_kernels/csrc/exact/device_picture.h"

using namespace flic::exact;

namespace {

struct Host {
    static float* allocate(size_t count) { return new float[count](); }
    static void release(float* p) { delete[] p; }
    static void upload(float* to, const float* from, size_t count) {
        std::copy(from, from + count, to);
    }
    static void download(float* to, const float* from, size_t count) {
        std::copy(from, from + count, to);
    }
    template <class Kernel>
    static void launch(const Kernel& kernel) {
        for (ptrdiff_t i = kernel.threads(); i-- > 0;) kernel(i);  // no order may matter
    }
};

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

void run_picture() {
    const std::vector<int32_t> fields = read<int32_t>(Config::kFields);
    const int count = read_int();
    std::vector<std::vector<float>> weights;
    WeightTable table;
    for (int i = 0; i < count; ++i) {
        const std::vector<char> name = read<char>(read_int());
        weights.push_back(read<float>(read_int()));
        table.add(std::string(name.begin(), name.end()), weights.back().data(),
                  static_cast<int64_t>(weights.back().size()));
    }
    const int height = read_int(), width = read_int();  // of y
    const size_t pixels = static_cast<size_t>(height) * width;
    const Config config = make_config(fields.data(), Config::kFields);
    const std::vector<float> z = read<float>(config.hyper_latent * pixels / 16);
    const std::vector<float> y = read<float>(config.latent * pixels);

    device::DeviceEngine<Host> engine(config, table);
    std::vector<float> means(config.latent * pixels), scales(config.latent * pixels);
    engine.hyper(z.data(), height / 4, width / 4, means.data(), scales.data());
    write(means);
    write(scales);
    device::DevicePicture<Host> picture(engine, means.data(), scales.data(), height, width);
    const size_t size = config.slice_channels() * pixels;
    for (int i = 0; i < config.slices; ++i) {
        std::vector<float> out[3];
        for (auto& values : out) values.resize(size);
        const float* const previous = i ? y.data() + (i - 1) * size : nullptr;
        picture.slice(i, previous, out[0].data(), out[1].data(), out[2].data());
        for (const auto& values : out) write(values);
    }
}

}  // namespace

int main() {
    try {
        run_picture();
    } catch (const Error& error) {
        fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
