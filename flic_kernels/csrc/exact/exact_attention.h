// The exact engine's attentions and the modulation, for the instruction set of the including file.
//
// Softmax: the true maximum first, keys ascending, masked keys not visited, one division at the
// end.
#pragma once
#include "exact/exact_kernels.h"
#include "exact/exact_tiles.h"
#include "simd/functions.h"

namespace {

using flic::exact::kPositions;
using flic::exact::kTile;
using flic::exact::kTileTokens;
using flic::exact::TokenAttention;
using flic::exact::WindowAttention;

// Scores of QUERIES tokens from `query` with KEYS tokens from `key`: chains over the window's
// positions.
template <int QUERIES, int KEYS>
FLIC_INLINE void token_scores(const TokenAttention& a, const float* query, const float* key,
                              float* scores, ptrdiff_t stride) {
    Lanes sum[QUERIES][KEYS];
    FLIC_UNROLL for (int i = 0; i < QUERIES; ++i) {
        FLIC_UNROLL for (int j = 0; j < KEYS; ++j) sum[i][j] = Lanes::set(0.0f);
    }
    for (ptrdiff_t p = 0; p < kPositions; ++p) {
        Lanes k[KEYS];
        FLIC_UNROLL for (int j = 0; j < KEYS; ++j) {
            k[j] = Lanes::load(key + p * 2 * a.inner + kLanes * j);
        }
        FLIC_UNROLL for (int i = 0; i < QUERIES; ++i) {
            const Lanes q = Lanes::load(query + p * a.inner + kLanes * i);
            FLIC_UNROLL for (int j = 0; j < KEYS; ++j) sum[i][j] = Lanes::fma(q, k[j], sum[i][j]);
        }
    }
    FLIC_UNROLL for (int i = 0; i < QUERIES; ++i) {
        FLIC_UNROLL for (int j = 0; j < KEYS; ++j) sum[i][j].store(scores + i * stride +
                                                                   kLanes * j);
    }
}

// Weighted values of QUERIES tokens at POSITIONS positions from p: chains over the keys.
template <int QUERIES, int POSITIONS>
FLIC_INLINE void token_values(const TokenAttention& a, int token, ptrdiff_t p, const float* weights,
                              ptrdiff_t stride, const Lanes* denominator) {
    Lanes sum[QUERIES][POSITIONS];
    FLIC_UNROLL for (int i = 0; i < QUERIES; ++i) {
        FLIC_UNROLL for (int j = 0; j < POSITIONS; ++j) sum[i][j] = Lanes::set(0.0f);
    }
    for (int slice = 0; slice < a.slices; ++slice) {
        const float* const values = a.key_value[slice] + p * 2 * a.inner + a.inner;
        for (int c = 0; c < a.inner; c += kLanes, weights += kLanes) {
            Lanes v[POSITIONS];
            FLIC_UNROLL for (int j = 0; j < POSITIONS; ++j) {
                v[j] = Lanes::load(values + j * 2 * a.inner + c);
            }
            FLIC_UNROLL for (int i = 0; i < QUERIES; ++i) {
                const Lanes w = Lanes::load(weights + i * stride);
                FLIC_UNROLL for (int j = 0; j < POSITIONS; ++j) {
                    sum[i][j] = Lanes::fma(w, v[j], sum[i][j]);
                }
            }
        }
    }
    FLIC_UNROLL for (int i = 0; i < QUERIES; ++i) {
        FLIC_UNROLL for (int j = 0; j < POSITIONS; ++j) {
            Lanes::div(sum[i][j], denominator[i])
                .store(a.out + (p + j) * a.inner + kLanes * (token + i));
        }
    }
}

// QUERIES tokens from `token` against all keys.
template <int QUERIES>
void attend_tokens(const TokenAttention& a, int token) {
    const ptrdiff_t stride = static_cast<ptrdiff_t>(a.slices) * a.inner;
    const float* const query = a.query + kLanes * token;
    for (int slice = 0; slice < a.slices; ++slice) {
        const float* const keys = a.key_value[slice];
        float* const scores = a.scores + static_cast<ptrdiff_t>(slice) * a.inner;
        int c = 0;
        for (; c + kAttentionTile * kLanes <= a.inner; c += kAttentionTile * kLanes) {
            token_scores<QUERIES, kAttentionTile>(a, query, keys + c, scores + c, stride);
        }
        for (; c < a.inner; c += kLanes)
            token_scores<QUERIES, 1>(a, query, keys + c, scores + c, stride);
    }
    const Lanes scale = Lanes::set(a.scale);
    Lanes greatest[QUERIES], denominator[QUERIES];
    FLIC_UNROLL for (int i = 0; i < QUERIES; ++i) {
        greatest[i] = Lanes::load(a.scores + i * stride);
        denominator[i] = Lanes::set(0.0f);
    }
    for (ptrdiff_t u = kLanes; u < stride; u += kLanes) {
        FLIC_UNROLL for (int i = 0; i < QUERIES; ++i) {
            greatest[i] = Lanes::max(greatest[i], Lanes::load(a.scores + i * stride + u));
        }
    }
    for (ptrdiff_t u = 0; u < stride; u += kLanes) {
        FLIC_UNROLL for (int i = 0; i < QUERIES; ++i) {
            float* const score = a.scores + i * stride + u;
            const Lanes e =
                exp_nonpositive(Lanes::mul(Lanes::sub(Lanes::load(score), greatest[i]), scale));
            e.store(score);
            denominator[i] = Lanes::add(denominator[i], e);
        }
    }
    for (int p = 0; p < kPositions; p += kAttentionTile) {
        token_values<QUERIES, kAttentionTile>(a, token, p, a.scores, stride, denominator);
    }
}

void token_attention(const TokenAttention& a) {
    const int tokens = a.inner / kLanes;
    int token = 0;
    for (; token + kAttentionTile <= tokens; token += kAttentionTile)
        attend_tokens<kAttentionTile>(a, token);
    for (; token < tokens; ++token) attend_tokens<1>(a, token);
}

// Where pixel (y, x), taken around the border, stands among tokens that are stored tile by tile.
inline ptrdiff_t tiled_token(const WindowAttention& a, int y, int x) {
    y = y % a.height;
    x = x % a.width;
    const ptrdiff_t tile = static_cast<ptrdiff_t>(y / kTile) * (a.width / kTile) + x / kTile;
    return tile * kTileTokens + y % kTile * kTile + x % kTile;
}

// One query (token `i` of a tile) of one branch and 16 heads. q, k, v: [16 tokens][dim][16 heads].
FLIC_INLINE void attend_window(const float* q, const float* k, const float* v, int dim, float scale,
                               int i, int window_height, int window_width, const float* bias,
                               int bias_stride, float* out) {
    const int yi = i / kTile, xi = i % kTile;
    const int top = yi - yi % window_height, left = xi - xi % window_width;
    const int keys = window_height * window_width;
    Lanes score[kTileTokens];
    for (int n = 0; n < keys; ++n) {
        const int yj = top + n / window_width, xj = left + n % window_width;
        const ptrdiff_t j = yj * kTile + xj;
        Lanes sum = Lanes::set(0.0f);
        for (int d = 0; d < dim; ++d) {
            sum = Lanes::fma(Lanes::load(q + (i * dim + d) * kLanes),
                             Lanes::load(k + (j * dim + d) * kLanes), sum);
        }
        const ptrdiff_t relative =
            (yi - yj + window_height - 1) * (2 * window_width - 1) + (xi - xj + window_width - 1);
        score[n] = Lanes::fma(sum, Lanes::set(scale), Lanes::load(bias + relative * bias_stride));
    }
    Lanes greatest = score[0];
    for (int n = 1; n < keys; ++n) greatest = Lanes::max(greatest, score[n]);
    Lanes denominator = Lanes::set(0.0f);
    for (int n = 0; n < keys; ++n) {
        score[n] = exp_nonpositive(Lanes::sub(score[n], greatest));
        denominator = Lanes::add(denominator, score[n]);
    }
    for (int d = 0; d < dim; ++d) {
        Lanes sum = Lanes::set(0.0f);
        for (int n = 0; n < keys; ++n) {
            const ptrdiff_t j = (top + n / window_width) * kTile + left + n % window_width;
            sum = Lanes::fma(score[n], Lanes::load(v + (j * dim + d) * kLanes), sum);
        }
        Lanes::div(sum, denominator).store(out + d * kLanes);
    }
}

void window_attention(const WindowAttention& a, int tile) {
    const int window_height[4] = {4, 1, 1, 4}, window_width[4] = {4, 1, 4, 1};
    const int dim = a.channels / a.heads;
    const int branch_heads = a.heads / 4;
    const int bias_stride = (branch_heads + kLanes - 1) / kLanes * kLanes;
    const ptrdiff_t qkv_stride = (3 * a.channels + kLanes - 1) / kLanes * kLanes;
    const ptrdiff_t out_stride = (a.channels + kLanes - 1) / kLanes * kLanes;
    const ptrdiff_t part =
        static_cast<ptrdiff_t>(kTileTokens) * dim * kLanes;  // q, k, v, then the result
    const int tile_y = tile / (a.width / kTile) * kTile, tile_x = tile % (a.width / kTile) * kTile;
    float* const result = a.scratch + 3 * part;
    for (int b = 0; b < 4; ++b) {
        // Shifted blocks look half a window further and put the result as far; where the window is
        // 1 wide they look one pixel further and do not put it back.
        const int look_y = a.shifted ? (window_height[b] + 1) / 2 : 0,
                  put_y = a.shifted ? window_height[b] / 2 : 0;
        const int look_x = a.shifted ? (window_width[b] + 1) / 2 : 0,
                  put_x = a.shifted ? window_width[b] / 2 : 0;
        for (int group = 0; group < branch_heads; group += kLanes) {
            const int lanes = branch_heads - group < kLanes ? branch_heads - group : kLanes;
            const int first = b * (a.channels / 4) + group * dim;
            memset(a.scratch, 0, 3 * part * sizeof(float));
            for (int i = 0; i < kTileTokens; ++i) {
                const ptrdiff_t token =
                    tiled_token(a, tile_y + i / kTile + look_y, tile_x + i % kTile + look_x);
                for (int t = 0; t < 3; ++t) {
                    const float* const from = a.qkv + token * qkv_stride + t * a.channels + first;
                    float* const to = a.scratch + t * part + i * dim * kLanes;
                    for (int lane = 0; lane < lanes; ++lane) {
                        for (int d = 0; d < dim; ++d) to[d * kLanes + lane] = from[lane * dim + d];
                    }
                }
            }
            for (int i = 0; i < kTileTokens; ++i) {
                attend_window(a.scratch, a.scratch + part, a.scratch + 2 * part, dim, a.scale, i,
                              window_height[b], window_width[b], a.bias[b] + group, bias_stride,
                              result);
                const ptrdiff_t token =
                    tiled_token(a, tile_y + i / kTile + put_y, tile_x + i % kTile + put_x);
                float* const to = a.out + token * out_stride + first;
                for (int lane = 0; lane < lanes; ++lane) {
                    for (int d = 0; d < dim; ++d) to[lane * dim + d] = result[d * kLanes + lane];
                }
            }
        }
    }
}

// Output (y, x) is a chain over the tile's 16 inputs (v, u), ascending, with kernel[(y - v) mod
// 4][(x - u) mod 4].
void modulate_add(const float* x, int tiles, int channels, const float* kernel, float* target) {
    for (; tiles > 0; --tiles, x += kTileTokens * channels, target += kTileTokens * channels) {
        for (int c = 0; c < channels; c += kLanes) {
            for (int p = 0; p < kTileTokens; ++p) {
                Lanes sum = Lanes::set(0.0f);
                for (int q = 0; q < kTileTokens; ++q) {
                    const int dy = (p / kTile - q / kTile) & (kTile - 1),
                              dx = (p - q) & (kTile - 1);
                    const ptrdiff_t tap = dy * kTile + dx;
                    sum = Lanes::fma(Lanes::load(x + static_cast<ptrdiff_t>(q) * channels + c),
                                     Lanes::load(kernel + tap * channels + c), sum);
                }
                float* const to = target + static_cast<ptrdiff_t>(p) * channels + c;
                Lanes::add(Lanes::load(to), sum).store(to);
            }
        }
    }
}

}  // namespace
