// The CUDA engine's kernels run as host code, thread after thread: reads what exact_models.dump
// writes from stdin, writes the results of exact_run.cpp, without the hidden activations, to
// stdout. The picture's memory and captured graphs have served other pictures before, the last of
// which failed.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../flic_kernels/csrc/exact/device_picture.h"

using namespace flic::exact;

namespace {

using Work = std::function<void()>;

// Works at once; while a graph is captured, puts the work into the graph instead.
struct Host {
    static float* allocate(size_t count) {
        if (captured) throw std::logic_error("memory asked for during a capture");
        return new float[count]();
    }
    static float* allocate_host(size_t count) { return allocate(count); }
    static void release(float* p) { delete[] p; }
    static void release_host(float* p) { release(p); }
    static void upload(float* to, const float* from, size_t count) {
        queue([=] { std::copy(from, from + count, to); });
    }
    static void download(float* to, const float* from, size_t count) { upload(to, from, count); }
    static void clear(float* p, size_t count) {
        queue([=] { std::fill(p, p + count, 0.0f); });
    }
    static void wait() {
        if (captured) throw std::logic_error("a wait during a capture");
    }
    template <class Kernel>
    static void launch(const Kernel& kernel) {
        queue([kernel] {
            for (ptrdiff_t i = kernel.threads(); i-- > 0;) kernel(i);  // no order may matter
        });
    }

    class Graph {
      public:
        template <class Body>
        void run(const Body& body) {
            if (work_.empty()) {
                captured = &work_;
                body();
                captured = nullptr;
            }
            for (const Work& work : work_) work();
        }

      private:
        std::vector<Work> work_;
    };

  private:
    static void queue(const Work& work) {
        if (captured) {
            captured->push_back(work);
        } else {
            work();
        }
    }
    static inline std::vector<Work>* captured = nullptr;
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

// All slices of a picture, the one before slice i being y's slice i - 1.
std::vector<float> run_slices(device::DevicePicture<Host>& picture, const Config& config,
                              const std::vector<float>& means, const std::vector<float>& scales,
                              const std::vector<float>& y) {
    picture.begin(means.data(), scales.data());
    const size_t size = y.size() / config.slices;
    std::vector<float> results(3 * y.size());
    for (int i = 0; i < config.slices; ++i) {
        float* const out = &results[3 * i * size];
        picture.slice(i, i ? &y[(i - 1) * size] : nullptr, out, out + size, out + 2 * size);
    }
    return results;
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
    device::DevicePicture<Host> picture(engine, height, width);
    run_slices(picture, config, scales, means, std::vector<float>(y.rbegin(), y.rend()));
    try {
        run_slices(picture, config, std::vector<float>(means.size(), 3e38f), scales, y);
        throw std::logic_error("means of 3e38 passed");
    } catch (const Error&) {
    }
    write(run_slices(picture, config, means, scales, y));
}

}  // namespace

int main() {
    try {
        run_picture();
    } catch (const std::exception& error) {
        fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
