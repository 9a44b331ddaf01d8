#include "codec/z_prior.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/errors.h"
#include "rans/quantise.h"

namespace flic {
namespace codec {
namespace {

constexpr int kReach = 255;                // symbols beyond +-kReach about the median are escaped
constexpr double kTail = 1.0 / (1 << 17);  // so are symbols beyond which less than this mass lies
constexpr int kEdges = 2 * kReach + 2;     // of the symbols
constexpr int kWidths[] = {1, 3, 3, 3, 3, 1};
constexpr int kWidest = 3;
constexpr double kLn2 = 0.6931471805599453;

using Edges = std::array<double, kEdges>;

// exp's series from (.. * r / k + 1) on down to k = 1. Unrolled: the compiler divides by a power of
// two faster.
template <int k>
inline double exp_series(double series, double r) {
    series = series * r / k + 1.0;
    if constexpr (k > 1) {
        return exp_series<k - 1>(series, r);
    } else {
        return series;
    }
}

// e^x = exp_fraction(x, n) 2^n, n being the integer next to x / ln 2.
inline double exp_fraction(double x, double n) {
    const double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    return exp_series<14>(1.0, r);
}

// e^x for x <= 700, to a few units in the last place.
double exp(double x) {
    const double n = std::rint(x * (1 / kLn2));
    constexpr double kLowest = -5000;  // 2^n is nothing by then
    return std::ldexp(exp_fraction(x, n), static_cast<int>(std::max(n, kLowest)));
}

// The same where |x| <= 700, without branches and calls: many at once.
inline double exp_within(double x) {
    constexpr double kShift = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer
    const double shifted = x * (1 / kLn2) + kShift;
    uint64_t exponent;
    std::memcpy(&exponent, &shifted, sizeof exponent);
    exponent = (exponent << 52) + (uint64_t{1023} << 52);
    double power;  // 2^n, a normal number
    std::memcpy(&power, &exponent, sizeof power);
    return exp_fraction(x, shifted - kShift) * power;
}

// The natural logarithm of x > 0: 2 atanh((m - 1) / (m + 1)) + e ln 2 for x = m 2^e.
double log(double x) {
    int exponent;
    double mantissa = std::frexp(x, &exponent);
    if (mantissa < 0.7071067811865476) {
        mantissa *= 2.0;
        --exponent;
    }
    const double s = (mantissa - 1.0) / (mantissa + 1.0);
    const double square = s * s;
    double series = 0;
    for (int k = 25; k > 0; k -= 2) series = series * square + 1.0 / k;
    return 2.0 * s * series + exponent * kLn2;
}

// In a loop of its own: what follows it is without branches, then.
inline double clipped(double x) { return std::min(std::max(x, -700.0), 700.0); }

// 1 / (1 + e^-x) and tanh, of x and of twice its argument, clipped.
inline double sigmoid(double x) { return 1.0 / (1.0 + exp_within(-x)); }
inline double tanh(double twice_x) { return 2.0 * sigmoid(twice_x) - 1.0; }

// log(1 + e^x); x itself from 40 on.
double softplus(double x) { return x > 40.0 ? x : log(1.0 + exp(x)); }

struct Prior {
    const float* const* matrices;
    const float* const* biases;
    const float* const* factors;
};

// The cumulative distribution of a channel of z at x, in place.
void cumulative(const Prior& prior, int channel, Edges& x) {
    std::array<Edges, kWidest> values{}, next;
    Edges argument;
    values[0] = x;
    for (int i = 0; i < kPriorLayers; ++i) {
        const int in = kWidths[i], out = kWidths[i + 1];
        for (int row = 0; row < out; ++row) {
            const int at = channel * out + row;
            Edges& total = next[row];
            total.fill(0);
            for (int column = 0; column < in; ++column) {
                const double weight = softplus(prior.matrices[i][at * in + column]);
                for (int e = 0; e < kEdges; ++e) total[e] += weight * values[column][e];
            }
            const double bias = prior.biases[i][at];
            for (double& t : total) t += bias;
            if (i + 1 < kPriorLayers) {
                const double factor = tanh(clipped(2.0 * prior.factors[i][at]));
                for (int e = 0; e < kEdges; ++e) argument[e] = clipped(2.0 * total[e]);
                for (int e = 0; e < kEdges; ++e) total[e] += factor * tanh(argument[e]);
            }
        }
        std::swap(values, next);
    }
    for (int e = 0; e < kEdges; ++e) argument[e] = clipped(values[0][e]);
    for (int e = 0; e < kEdges; ++e) x[e] = sigmoid(argument[e]);
}

void append_channel(rans::TableRows& rows, const Edges& cdf) {
    int first = kReach, last = kReach;  // the median alone where no symbol is likely enough
    bool any = false;
    for (int k = 0; k + 1 < kEdges; ++k) {
        if (cdf[k + 1] > kTail && cdf[k] < 1.0 - kTail) {
            if (!any) first = k;
            last = k;
            any = true;
        }
    }
    Edges probabilities;
    for (int k = first; k <= last; ++k) {
        probabilities[k] = std::max(cdf[k + 1] - cdf[k], 0.0);  // NaN stays
    }
    rans::append_table(rows, first - kReach, &probabilities[first], last + 1 - first);
}

void require_finite(const float* values, int count) {
    require(values != nullptr, "a parameter of z's prior is missing");
    if (!std::all_of(values, values + count, [](float value) { return std::isfinite(value); })) {
        throw Error(FLIC_NOT_FINITE, "z's prior holds NaN or infinity");
    }
}

}  // namespace

rans::TableRows z_tables(int channels, const float* quantiles,
                         const float* const matrices[kPriorLayers],
                         const float* const biases[kPriorLayers],
                         const float* const factors[kPriorLayers - 1]) {
    require(channels >= 1 && channels <= 1 << 14, "the number of z's channels is out of range");
    require(quantiles && matrices && biases && factors, "a parameter of z's prior is missing");
    for (int i = 0; i < kPriorLayers; ++i) {
        const int rows = channels * kWidths[i + 1];
        require_finite(matrices[i], rows * kWidths[i]);
        require_finite(biases[i], rows);
        if (i + 1 < kPriorLayers) require_finite(factors[i], rows);
    }
    rans::TableRows rows;
    Edges x;
    for (int channel = 0; channel < channels; ++channel) {
        const float* median = quantiles + channel * 3 + 1;
        require_finite(median, 1);
        for (int e = 0; e < kEdges; ++e) x[e] = *median + ((e - kReach) - 0.5);
        cumulative({matrices, biases, factors}, channel, x);
        append_channel(rows, x);
    }
    return rows;
}

}  // namespace codec
}  // namespace flic
