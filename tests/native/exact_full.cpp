// exp and GELU of the exact engine over all 2^32 inputs: the same bits from every instruction set,
// right values. tests/helpers/native_builds.py builds it, with csrc/exact/exact_kernels_simd.cpp.
//
// Arguments: how many blocks of 2^16 inputs to leave out after each that is taken (0: none), and
// the number of threads. Prints one line; exits 1 where a bit differs or an error is too large.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <thread>
#include <vector>

#include "exact/exact_kernels.h"

using flic::exact::Kernels;

namespace {

constexpr int kBlock = 1 << 16;

struct Worst {
    double exp = 0, gelu = 0;  // relative; relative to |x|
};

std::vector<const Kernels*> available() {
    std::vector<const Kernels*> all = {&flic::exact::scalar::kernels};
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        all.push_back(&flic::exact::avx2::kernels);
    }
    if (__builtin_cpu_supports("avx512f")) all.push_back(&flic::exact::avx512::kernels);
#endif
    return all;
}

bool is_number(float x) { return x == x; }

// Inputs whose differing bits would be a fault: NaN comes out as NaN, its payload is free.
long differing(const std::vector<float>& x, const std::vector<float>& a,
               const std::vector<float>& b) {
    if (!memcmp(a.data(), b.data(), sizeof(float) * a.size())) return 0;
    long count = 0;
    for (size_t i = 0; i < x.size(); ++i) {
        if (memcmp(&a[i], &b[i], 4) && (is_number(a[i]) || is_number(b[i]))) ++count;
    }
    return count;
}

void measure(const std::vector<float>& x, const std::vector<float>& e, const std::vector<float>& g,
             Worst* worst) {
    for (size_t i = 0; i < x.size(); i += 7) {
        const double v = x[i];
        if (v <= 0 && v >= -87) worst->exp = fmax(worst->exp, fabs(e[i] / exp(v) - 1));
        if (fabs(v) >= 1e-30 && fabs(v) < 1e30) {
            worst->gelu = fmax(worst->gelu, fabs(g[i] / v - 0.5 * erfc(-v * M_SQRT1_2)));
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    const int skip = argc > 1 ? atoi(argv[1]) : 0, threads = argc > 2 ? atoi(argv[2]) : 1;
    const std::vector<const Kernels*> all = available();
    std::atomic<long> differences{0}, inputs{0};
    std::atomic<int> next{0};
    std::vector<Worst> worst(threads);
    std::vector<std::thread> pool;
    for (int t = 0; t < threads; ++t) {
        pool.emplace_back([&, t] {
            std::vector<float> x(kBlock), e(kBlock), g(kBlock), other(kBlock);
            for (int block; (block = next.fetch_add(skip + 1)) < kBlock;) {
                for (int i = 0; i < kBlock; ++i) {
                    const uint32_t bits = static_cast<uint32_t>(block) << 16 | i;
                    memcpy(&x[i], &bits, 4);
                }
                all[0]->exp_nonpositive(x.data(), e.data(), kBlock);
                all[0]->gelu(x.data(), g.data(), kBlock);
                for (size_t k = 1; k < all.size(); ++k) {
                    all[k]->exp_nonpositive(x.data(), other.data(), kBlock);
                    differences += differing(x, e, other);
                    all[k]->gelu(x.data(), other.data(), kBlock);
                    differences += differing(x, g, other);
                }
                measure(x, e, g, &worst[t]);
                inputs += kBlock;
            }
        });
    }
    for (std::thread& t : pool) t.join();
    Worst w;
    for (const Worst& one : worst) {
        w.exp = fmax(w.exp, one.exp);
        w.gelu = fmax(w.gelu, one.gelu);
    }
    printf("%ld inputs, instruction sets:", inputs.load());
    for (const Kernels* k : all) printf(" %s", k->name);
    printf("; differing bits %ld; exp error %.2e relative, GELU error %.2e of |x|\n",
           differences.load(), w.exp, w.gelu);
    return differences || w.exp > 1e-7 || w.gelu > 2.5e-7;
}
