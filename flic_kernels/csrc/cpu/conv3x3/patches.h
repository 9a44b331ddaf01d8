// Patches of channels-last images as rows of products: runs of memory, neighbouring pixels of a few
// lines. Only patches that reach beyond the image's sides are copied, with zeros.
#pragma once
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include "base/floats.h"
#include "cpu/rows.h"

namespace flic::cpu {

template <class T>
struct Image {
    T* data;
    int64_t batch;
    int height, width, channels;

    T* at(int64_t picture, int y, int x) const {
        return data + ((picture * height + y) * width + x) * channels;
    }
    int64_t pixels() const { return batch * height * width; }
    size_t bytes() const { return static_cast<size_t>(pixels()) * channels * sizeof(T); }
};

// A position's patch: `lines` times `columns` pixels from (y * stride + top, x * stride + left) on.
struct Window {
    int lines, columns;
    int top, left;
    int stride;
};
constexpr Window same_window(int stride) { return {3, 3, -1, -1, stride}; }

// A thread's patches.
template <class T>
class Patches {
  public:
    // most: patches at a time; copied: those of them that may reach beyond the image's sides.
    Patches(const Image<const T>& image, const Window& window, size_t most, size_t copied)
        : image_(image),
          window_(window),
          zeros_(floats(run())),
          copies_(floats(copied * window.lines * run()), Floats::Fill::none) {
        runs_.reserve(most * window.lines);
        clear();
    }

    void clear() {
        runs_.clear();
        next_ = reinterpret_cast<T*>(copies_.get());
    }

    void add(int64_t picture, int y, int x) {
        const int first_x = x * window_.stride + window_.left;
        const bool inside = first_x >= 0 && first_x + window_.columns <= image_.width;
        for (int line = 0; line < window_.lines; ++line) {
            const int from_y = y * window_.stride + window_.top + line;
            if (from_y < 0 || from_y >= image_.height) {
                runs_.push_back(reinterpret_cast<const T*>(zeros_.get()));
            } else if (inside) {
                runs_.push_back(image_.at(picture, from_y, first_x));
            } else {
                runs_.push_back(copy(picture, from_y, first_x));
            }
        }
    }

    int rows() const { return static_cast<int>(runs_.size()) / window_.lines; }
    // In as many parts as there are lines.
    Rows<const T> get() const { return {runs_.data(), window_.lines}; }
    ptrdiff_t run() const { return static_cast<ptrdiff_t>(window_.columns) * image_.channels; }

  private:
    static size_t floats(size_t count) {
        return (count * sizeof(T) + sizeof(float) - 1) / sizeof(float);
    }

    const T* copy(int64_t picture, int y, int first_x) {
        T* const to = next_;
        next_ += run();
        memset(to, 0, run() * sizeof(T));
        const int begin = std::max(first_x, 0);
        const int end = std::min(first_x + window_.columns, image_.width);
        if (begin < end) {
            memcpy(to + static_cast<ptrdiff_t>(begin - first_x) * image_.channels,
                   image_.at(picture, y, begin),
                   static_cast<size_t>(end - begin) * image_.channels * sizeof(T));
        }
        return to;
    }

    const Image<const T> image_;
    const Window window_;
    Floats zeros_, copies_;
    std::vector<const T*> runs_;
    T* next_;
};

// Positions of pictures in blocks that a thread takes at a time: so many that weights from beyond
// the cache serve many rows, so few that the pixels they are made from stay in it.
struct Blocks {
    static constexpr int kWidth = 48, kPixels = 192;
    static constexpr size_t kCached = 1 << 18;  // weights that stay in a core's cache

    int64_t batch;
    int height, width;
    int across, down, block_width, block_height;

    // weights: of the product, each of which every block reads.
    Blocks(int64_t pictures, int lines, int columns, int threads, size_t weights)
        : batch(pictures), height(lines), width(columns) {
        const int of_thread = weights > kCached ? 1 : 3;  // blocks at least, if there are lines
        across = (width + kWidth - 1) / kWidth;
        block_width = (width + across - 1) / across;
        const int64_t share = batch * height * across / (threads * of_thread);
        block_height =
            static_cast<int>(std::clamp<int64_t>(share, 1, std::max(1, kPixels / block_width)));
        down = (height + block_height - 1) / block_height;
    }

    int count() const { return static_cast<int>(batch * down * across); }
    size_t pixels() const { return static_cast<size_t>(block_height) * block_width; }
    // Of a block's positions those at a side of the image, where a patch is three columns at most.
    size_t at_sides() const { return 2 * static_cast<size_t>(block_height); }

    // visit(picture, y, x) for every position of a block.
    template <class Visit>
    void for_positions(int block, const Visit& visit) const {
        const int left = block % across * block_width, top = block / across % down * block_height;
        for (int y = top; y < std::min(height, top + block_height); ++y) {
            for (int x = left; x < std::min(width, left + block_width); ++x) {
                visit(static_cast<int64_t>(block / across / down), y, x);
            }
        }
    }
};

}  // namespace flic::cpu
