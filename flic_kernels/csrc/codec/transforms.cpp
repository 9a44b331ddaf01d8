// Layers as calls of the CPU operations; see transforms.h.
#include "codec/transforms.h"

#include <math.h>
#include <string.h>

#include <algorithm>
#include <type_traits>

#include "cpu/element.h"
#include "cpu/kernels.h"
#include "cpu/product/rows_as_floats.h"

namespace flic::codec {
namespace {

constexpr int kWindow = 8, kModulation = 16;  // of g_a's and g_s's blocks
constexpr int kHyperWindow = 2, kHyperModulation = 4;
constexpr float kEps = 1e-5f;

template <class T>
constexpr int kElement =
    static_cast<int>(sizeof(T) == 2 ? cpu::Element::bfloat16 : cpu::Element::float32);

void check(int status, const char* what) {
    if (status != FLIC_OK) throw Error(status, what);
}

template <class T>
void convolve(const Convolution<T>& c, const Pixels<T>& x, const T* residual, T* out, int threads) {
    check(flic_conv3x3(x.data, kElement<T>, 1, x.height, x.width, c.channels, c.weight, c.bias,
                       c.outputs, c.stride, c.leaky, c.shuffle, c.gamma, c.beta, c.inverse,
                       residual, out, threads),
          "a convolution");
}

// Every stride-th pixel of every stride-th line, where it lies.
template <class T>
void pointwise(const Pointwise<T>& p, const Pixels<T>& x, T* out, int threads) {
    const int64_t pixel = static_cast<int64_t>(p.stride) * p.channels;
    const FlicLinearShape shape = {(x.height + p.stride - 1) / p.stride,
                                   (x.width + p.stride - 1) / p.stride,
                                   pixel * x.width,
                                   pixel,
                                   p.channels,
                                   p.outputs,
                                   1,
                                   0,
                                   kEps};
    const FlicLinearParameters parameters = {p.bias, nullptr, nullptr};
    check(flic_fused_linear(x.data, kElement<T>, &shape, p.weight, &parameters, nullptr, out,
                            threads),
          "a 1x1 convolution");
}

template <class T>
void transform(const Block& b, bool shifted, const Pixels<T>& x, T* out, int threads) {
    const FlicFatShape shape = {1,        x.height,     x.width, b.channels, b.heads,
                                b.window, b.modulation, shifted, kEps};
    check(
        flic_fat_block(x.data, kElement<T>, &b.parameters, &shape, out, nullptr, nullptr, threads),
        "a FAT block");
}

// The largest of the images that a transform goes through.
class Most {
  public:
    Most(int channels, int height, int width) : height_(height), width_(width) { see(channels); }

    // At twice or half the resolution, then with margins around it.
    void next(int channels, int direction, const Margins& m) {
        height_ = direction > 0 ? 2 * height_ : height_ / 2;
        width_ = direction > 0 ? 2 * width_ : width_ / 2;
        see(channels);
        height_ += m.top + m.bottom;
        width_ += m.left + m.right;
        see(channels);
    }
    size_t elements() const { return elements_; }

  private:
    void see(int channels) {
        elements_ = std::max(elements_, static_cast<size_t>(height_) * width_ * channels);
    }

    int height_, width_;
    size_t elements_ = 0;
};

// The slot that neither of these is.
constexpr int other(int a, int b) { return 3 - a - b; }

// With its border repeated outwards, or cut; gives the slot of the result.
template <class T>
int resized(Pixels<T>& x, int from, const Margins& m, int sign, Buffers<T>& buffers) {
    if (!m.any()) return from;
    const int slot = (from + 1) % 3;
    const Pixels<T> out = buffers.image(slot, x.height + sign * (m.top + m.bottom),
                                        x.width + sign * (m.left + m.right), x.channels);
    for (int y = 0; y < out.height; ++y) {
        const int source_y = std::clamp(y - sign * m.top, 0, x.height - 1);
        for (int column = 0; column < out.width; ++column) {
            const int source_x = std::clamp(column - sign * m.left, 0, x.width - 1);
            const size_t pixel = static_cast<size_t>(y) * out.width + column;
            memcpy(out.data + pixel * x.channels,
                   x.data + (static_cast<size_t>(source_y) * x.width + source_x) * x.channels,
                   x.channels * sizeof(T));
        }
    }
    x = out;
    return slot;
}

constexpr Margins kNone = {};

// Through a stage, from the buffers' slot `from`; gives the slot of the result. Between the
// residual block and the FAT blocks the image gains or loses `margins`, by `sign`.
template <class T>
int through(const Stage<T>& s, Pixels<T>& x, int from, Buffers<T>& buffers, int threads,
            const Margins& margins = kNone, int sign = 1) {
    const int hidden_slot = (from + 1) % 3, skip_slot = other(from, hidden_slot);
    const int height = s.up ? 2 * x.height : x.height / 2;
    const int width = s.up ? 2 * x.width : x.width / 2, channels = s.second.outputs;
    const Pixels<T> hidden = buffers.image(hidden_slot, height, width, channels);
    const Pixels<T> skip = buffers.image(skip_slot, height, width, channels);
    convolve(s.first, x, static_cast<const T*>(nullptr), hidden.data, threads);
    if (s.up) {
        convolve(s.upsample, x, static_cast<const T*>(nullptr), skip.data, threads);
    } else {
        pointwise(s.skip, x, skip.data, threads);
    }
    x = buffers.image(from, height, width, channels);
    convolve(s.second, hidden, skip.data, x.data, threads);
    const int slot = resized(x, from, margins, sign, buffers);
    const Pixels<T> plain = buffers.image((slot + 1) % 3, x.height, x.width, channels);
    transform(s.blocks[0], false, x, plain.data, threads);
    transform(s.blocks[1], true, plain, x.data, threads);
    return slot;
}

}  // namespace

const float* Weights::find(const std::string& name, size_t count) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw Error(FLIC_BAD_MODEL, "weight " + name + " is missing");
    const size_t size = found->second.count();
    if (size != count) {
        throw Error(FLIC_BAD_MODEL, "weight " + name + " has " + std::to_string(size) +
                                        " values, not " + std::to_string(count));
    }
    return found->second.data;
}

template <class T>
Buffers<T>::Buffers(size_t most) : most_(most) {
    const size_t floats = (most * sizeof(T) + sizeof(float) - 1) / sizeof(float);
    for (Floats& slot : slots_) slot = Floats(floats, Floats::Fill::none);
}

template <class T>
Pixels<T> Buffers<T>::image(int slot, int height, int width, int channels) const {
    const Pixels<T> pixels = {reinterpret_cast<T*>(slots_[slot].get()), height, width, channels};
    if (pixels.size() > most_) throw Error(FLIC_BAD_ARGUMENT, "a tile's margins are too large");
    return pixels;
}

// Finds weights by the published names and brings them into the form that layers take.
template <class T>
class Network<T>::Loader {
  public:
    Loader(Network& network, const Weights& weights) : network_(network), weights_(weights) {}

    Convolution<T> convolution(const std::string& name, int channels, int outputs, int stride = 1,
                               int shuffle = 1, bool leaky = false) {
        const size_t count = static_cast<size_t>(outputs) * channels * 9;
        return {narrow(name + ".weight", count),
                weights_.find(name + ".bias", outputs),
                channels,
                outputs,
                stride,
                shuffle,
                leaky,
                nullptr,
                nullptr,
                false};
    }

    Stage<T> down(const std::string& name, int first, int in, int out, int heads, int window,
                  int modulation) {
        const std::string at = name + std::to_string(first) + ".";
        Stage<T> s = {};
        s.first = convolution(at + "conv1", in, out, 2, 1, true);
        s.second = convolution(at + "conv2", out, out);
        normalise(s.second, at + "gdn", false);
        const size_t count = static_cast<size_t>(out) * in;
        s.skip = {narrow(at + "skip.weight", count), weights_.find(at + "skip.bias", out), in, out,
                  2};
        blocks(s, name, first + 1, out, heads, window, modulation);
        return s;
    }

    Stage<T> up(const std::string& name, int first, int in, int out, int heads) {
        const std::string at = name + std::to_string(first) + ".";
        Stage<T> s = {};
        s.up = true;
        s.first = convolution(at + "subpel_conv.0", in, 4 * out, 1, 2, true);
        s.upsample = convolution(at + "upsample.0", in, 4 * out, 1, 2);
        s.second = convolution(at + "conv", out, out);
        normalise(s.second, at + "igdn", true);
        blocks(s, name, first + 1, out, heads, kWindow, kModulation);
        return s;
    }

  private:
    const T* narrow(const std::string& name, size_t count) {
        const float* const wide = weights_.find(name, count);
        if constexpr (std::is_same_v<T, float>) {
            return wide;
        } else {
            std::vector<T>& to = network_.narrow_.emplace_back(count);
            cpu::kernels().rows.to_bfloat16(wide, to.data(), static_cast<ptrdiff_t>(count));
            return to.data();
        }
    }

    // CompressAI's NonNegativeParametrizer: max(p, bound)^2 - 2^-36, bound^2 = minimum + 2^-36.
    const float* reparametrised(const std::string& name, size_t count, double minimum) {
        constexpr double kPedestal = 0x1p-36;
        const float bound = static_cast<float>(sqrt(minimum + kPedestal));
        const float pedestal = static_cast<float>(kPedestal);
        const float* const from = weights_.find(name, count);
        Floats& to = network_.made_.emplace_back(count, Floats::Fill::none);
        for (size_t i = 0; i < count; ++i) {
            const float p = std::max(from[i], bound);
            to[i] = p * p - pedestal;
        }
        return to.get();
    }

    void normalise(Convolution<T>& c, const std::string& name, bool inverse) {
        const size_t n = c.outputs;
        c.gamma = reparametrised(name + ".gamma", n * n, 0.0);
        c.beta = reparametrised(name + ".beta", n, 1e-6);
        c.inverse = inverse;
    }

    void blocks(Stage<T>& s, const std::string& name, int first, int channels, int heads,
                int window, int modulation) {
        for (int i = 0; i < 2; ++i) {
            s.blocks[i] =
                block(name + std::to_string(first + i) + ".", channels, heads, window, modulation);
        }
    }

    Block block(const std::string& name, int channels, int heads, int window, int modulation) {
        const size_t c = channels, square = c * c;
        const std::string inner = name + "trans_block.";
        Block b = {{}, channels, heads, window, modulation};
        FlicFatParameters& p = b.parameters;
        p.conv1_1_weight = narrow(name + "conv1_1.weight", square);
        p.conv1_1_bias = weights_.find(name + "conv1_1.bias", c);
        p.norm1_weight = weights_.find(inner + "norm1.weight", c);
        p.norm1_bias = weights_.find(inner + "norm1.bias", c);
        p.qkv_weight = narrow(inner + "qkv.weight", 3 * square);
        const int lengths[4][2] = {{2 * window, 2 * window},
                                   {window / 2, window / 2},
                                   {window / 2, 2 * window},
                                   {2 * window, window / 2}};
        for (int i = 0; i < 4; ++i) {
            const size_t rows =
                static_cast<size_t>(2 * lengths[i][0] - 1) * (2 * lengths[i][1] - 1);
            p.tables[i] = weights_.find(
                inner + "attns." + std::to_string(i) + ".relative_position_bias_table",
                rows * (heads / 4));
        }
        p.proj_weight = narrow(inner + "proj.weight", square);
        p.proj_bias = weights_.find(inner + "proj.bias", c);
        p.norm2_weight = weights_.find(inner + "norm2.weight", c);
        p.norm2_bias = weights_.find(inner + "norm2.bias", c);
        p.expand_weight = narrow(inner + "ffn.0.weight", 4 * square);
        p.expand_bias = weights_.find(inner + "ffn.0.bias", 4 * c);
        p.contract_weight = narrow(inner + "ffn.2.weight", 4 * square);
        p.contract_bias = weights_.find(inner + "ffn.2.bias", c);
        p.complex_weight =
            weights_.find(inner + "fm.complex_weight",
                          static_cast<size_t>(modulation) * (modulation / 2 + 1) * c * 2);
        p.conv1_2_weight = narrow(name + "conv1_2.weight", square);
        p.conv1_2_bias = weights_.find(name + "conv1_2.bias", c);
        return b;
    }

    Network& network_;
    const Weights& weights_;
};

template <class T>
Network<T>::Network(const Config& config, const Weights& weights) : config_(config) {
    Loader load(*this, weights);
    const int* const n = config.widths;
    const int* const heads = config.heads;
    for (int i = 0; i < 3; ++i) {
        const int in = i ? n[i - 1] : 3;
        g_a_[i] = load.down("g_a.", 3 * i, in, n[i], heads[i], kWindow, kModulation);
        const int from = i ? n[3 - i] : config.latent;
        g_s_[i] = load.up("g_s.", 3 * i, from, n[2 - i], heads[2 - i]);
    }
    y_ = load.convolution("g_a.9", n[2], config.latent, 2);
    x_ = load.convolution("g_s.9.0", n[0], 12, 1, 2);
    h_a_ = load.down("h_a.", 0, config.latent, n[2], heads[2], kHyperWindow, kHyperModulation);
    z_ = load.convolution("h_a.3", n[2], config.hyper, 2);
}

template <class T>
size_t Network<T>::most_of_analysis(int height, int width, const AnalysisTile& tile) const {
    Most most(3, height, width);
    most.next(config_.widths[0], -1, kNone);
    most.next(config_.widths[1], -1, tile.middle);
    most.next(config_.widths[2], -1, tile.coarse);
    most.next(config_.latent, -1, kNone);
    return most.elements();
}

template <class T>
size_t Network<T>::most_of_hyper_analysis(int height, int width) const {
    Most most(config_.latent, height, width);
    most.next(config_.widths[2], -1, kNone);
    most.next(config_.hyper, -1, kNone);
    return most.elements();
}

template <class T>
size_t Network<T>::most_of_synthesis(int height, int width) const {
    Most most(config_.latent, height, width);
    for (int i = 2; i >= 0; --i) most.next(config_.widths[i], 1, kNone);
    most.next(3, 1, kNone);
    return most.elements();
}

template <class T>
Pixels<T> Network<T>::analyze(const float* x, int height, int width, const AnalysisTile& tile,
                              Buffers<T>& buffers, int threads) const {
    Pixels<T> at = buffers.image(0, height, width, 3);
    if constexpr (std::is_same_v<T, float>) {
        memcpy(at.data, x, at.size() * sizeof(float));
    } else {
        cpu::kernels().rows.to_bfloat16(x, at.data, static_cast<ptrdiff_t>(at.size()));
    }
    int slot = through(g_a_[0], at, 0, buffers, threads);
    slot = through(g_a_[1], at, slot, buffers, threads, tile.middle);
    slot = through(g_a_[2], at, slot, buffers, threads, tile.coarse);
    const Pixels<T> y = buffers.image((slot + 1) % 3, at.height / 2, at.width / 2, config_.latent);
    convolve(y_, at, static_cast<const T*>(nullptr), y.data, threads);
    return y;
}

template <class T>
Pixels<T> Network<T>::hyper_analyze(const Pixels<T>& y, Buffers<T>& buffers, int threads) const {
    Pixels<T> at = y;
    const int slot = through(h_a_, at, 0, buffers, threads);
    const Pixels<T> z = buffers.image((slot + 1) % 3, at.height / 2, at.width / 2, config_.hyper);
    convolve(z_, at, static_cast<const T*>(nullptr), z.data, threads);
    return z;
}

template <class T>
Pixels<T> Network<T>::synthesize(const Pixels<T>& y_hat, const SynthesisTile& tile,
                                 Buffers<T>& buffers, int threads) const {
    Pixels<T> at = y_hat;
    int slot = through(g_s_[0], at, 0, buffers, threads);
    slot = through(g_s_[1], at, slot, buffers, threads, tile.middle, -1);
    slot = through(g_s_[2], at, slot, buffers, threads, tile.fine, -1);
    Pixels<T> x = buffers.image((slot + 1) % 3, 2 * at.height, 2 * at.width, 3);
    convolve(x_, at, static_cast<const T*>(nullptr), x.data, threads);
    resized(x, (slot + 1) % 3, tile.cut, -1, buffers);
    return x;
}

template class Buffers<float>;
template class Buffers<Bfloat16>;
template class Network<float>;
template class Network<Bfloat16>;

}  // namespace flic::codec
