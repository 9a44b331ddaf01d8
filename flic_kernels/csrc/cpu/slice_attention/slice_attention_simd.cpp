// Slice attention's kernels, compiled for each instruction set.
//
// A group's tensors are gathered as [token][position][16 lanes]; everything is then a product of
// two such arrays, lane by lane.
#include "cpu/slice_attention/slice_attention.h"
#include "simd/exponential.h"
#include "simd/load_store.h"

namespace {

using flic::cpu::SliceAttention;
using flic::cpu::SliceKernels;

#if defined(FLIC_LANES_AVX512)
constexpr int kRows = 4, kColumns = 4;  // of a product's tile in registers
#elif defined(FLIC_LANES_AVX2)
constexpr int kRows = 2, kColumns = 2;
#else
constexpr int kRows = 1, kColumns = 2;
#endif
constexpr int kQueries = 4;  // forward: so many at a time

// Distances from row to row and from column to column of lanes.
struct Matrix {
    const float* data;
    ptrdiff_t row, column;
};
struct Result {
    float* data;
    ptrdiff_t row, column;
};

template <int ROWS, int COLUMNS>
FLIC_INLINE void product_tile(const float* a, const Matrix& at, const float* b, const Matrix& bt,
                              int depth, float* c, const Result& ct, bool add) {
    Lanes sum[ROWS][COLUMNS];
    FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
        FLIC_UNROLL for (int j = 0; j < COLUMNS; ++j) {
            sum[i][j] = add ? Lanes::load(c + i * ct.row + j * ct.column) : Lanes::set(0.0f);
        }
    }
    for (int k = 0; k < depth; ++k, a += at.column, b += bt.row) {
        Lanes y[COLUMNS];
        FLIC_UNROLL for (int j = 0; j < COLUMNS; ++j) y[j] = Lanes::load(b + j * bt.column);
        FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
            const Lanes x = Lanes::load(a + i * at.row);
            FLIC_UNROLL for (int j = 0; j < COLUMNS; ++j) {
                sum[i][j] = Lanes::fma(x, y[j], sum[i][j]);
            }
        }
    }
    FLIC_UNROLL for (int i = 0; i < ROWS; ++i) {
        FLIC_UNROLL for (int j = 0; j < COLUMNS; ++j) {
            sum[i][j].store(c + i * ct.row + j * ct.column);
        }
    }
}

template <int ROWS>
FLIC_INLINE void product_rows(const float* a, const Matrix& at, const Matrix& b, int columns,
                              int depth, float* c, const Result& ct, bool add) {
    int j = 0;
    for (; j + kColumns <= columns; j += kColumns) {
        product_tile<ROWS, kColumns>(a, at, b.data + j * b.column, b, depth, c + j * ct.column, ct,
                                     add);
    }
    for (; j < columns; ++j) {
        product_tile<ROWS, 1>(a, at, b.data + j * b.column, b, depth, c + j * ct.column, ct, add);
    }
}

// c[rows][columns] = a[rows][depth] b[depth][columns], or c += where `add`; a product a lane.
void product(const Matrix& a, const Matrix& b, int rows, int columns, int depth, const Result& c,
             bool add) {
    int i = 0;
    for (; i + kRows <= rows; i += kRows) {
        product_rows<kRows>(a.data + i * a.row, a, b, columns, depth, c.data + i * c.row, c, add);
    }
    for (; i < rows; ++i) {
        product_rows<1>(a.data + i * a.row, a, b, columns, depth, c.data + i * c.row, c, add);
    }
}

// The windows and heads of one group, and how its lanes are gathered.
struct Group {
    const SliceAttention& a;
    int64_t window;  // the first one
    int windows;
    int head;          // the first one
    int lanes;         // of each window
    ptrdiff_t stride;  // from token to token of what is gathered, in floats: no power of two

    Group(const SliceAttention& attention, int64_t group) : a(attention) {
        const int parts = a.groups_of_window();
        window = group / parts * a.together();
        const int64_t left = a.windows - window;
        windows = left < a.together() ? static_cast<int>(left) : a.together();
        head = static_cast<int>(group % parts) * kLanes;
        lanes = a.heads - head < kLanes ? a.heads - head : kLanes;
        stride = static_cast<ptrdiff_t>(a.positions + 1) * kLanes;
    }

    ptrdiff_t offset(int w, int position, int token) const {
        return ((window + w) * a.positions + position) * a.channels() +
               static_cast<ptrdiff_t>(token) * a.heads + head;
    }

    // `count` tokens from `first`, times `scale`: [count][positions][16].
    void gather(const void* from, int first, int count, float scale, float* to) const {
        const Lanes factor = Lanes::set(scale);
        for (int t = 0; t < count; ++t) {
            for (int p = 0; p < a.positions; ++p) {
                float* const lane = to + t * stride + p * kLanes;
                if (windows * lanes < kLanes) Lanes::set(0.0f).store(lane);
                for (int w = 0; w < windows; ++w) {
                    const Lanes x = load_elements(from, a.element, offset(w, p, first + t), lanes);
                    store_first(lane + w * lanes, Lanes::mul(x, factor), lanes);
                }
            }
        }
    }

    // The reverse, times a factor for each lane.
    void scatter(const float* from, int first, int count, const Lanes& factor, void* to) const {
        for (int t = 0; t < count; ++t) {
            for (int p = 0; p < a.positions; ++p) {
                float lane[kLanes];
                Lanes::mul(Lanes::load(from + t * stride + p * kLanes), factor).store(lane);
                for (int w = 0; w < windows; ++w) {
                    store_elements(to, a.element, offset(w, p, first + t),
                                   load_first(lane + w * lanes, lanes), lanes);
                }
            }
        }
    }

    float* lse(int w, int token) const {
        return a.lse + (window + w) * a.channels() + static_cast<ptrdiff_t>(token) * a.heads + head;
    }
    void store_lse(int token, const Lanes& value) const {
        float lane[kLanes];
        value.store(lane);
        for (int w = 0; w < windows; ++w) {
            store_first(lse(w, token), load_first(lane + w * lanes, lanes), lanes);
        }
    }
    Lanes load_lse(int token) const {
        float lane[kLanes] = {};
        for (int w = 0; w < windows; ++w) {
            store_first(lane + w * lanes, load_first(lse(w, token), lanes), lanes);
        }
        return Lanes::load(lane);
    }
};

inline float score_scale(const SliceAttention& a) {
    return 1.0f / __builtin_sqrtf(static_cast<float>(a.tokens));
}

void attend_group(const SliceAttention& a, int64_t number, float* scratch) {
    const Group group(a, number);
    const ptrdiff_t row = static_cast<ptrdiff_t>(a.tokens) * kLanes;  // of scores
    float* const key = scratch;
    float* const value = key + a.tokens * group.stride;
    float* const query = value + a.tokens * group.stride;
    float* const result = query + kQueries * group.stride;
    float* const scores = result + kQueries * group.stride;
    group.gather(a.k, 0, a.tokens, 1.0f, key);
    group.gather(a.v, 0, a.tokens, 1.0f, value);
    for (int slice = 0; slice < a.slices; ++slice) {
        const int seen = (slice + 1) * a.slice();
        for (int first = slice * a.slice(); first < seen; first += kQueries) {
            const int queries = seen - first < kQueries ? seen - first : kQueries;
            group.gather(a.q, first, queries, kLog2E * score_scale(a), query);
            product({query, group.stride, kLanes}, {key, kLanes, group.stride}, queries, seen,
                    a.positions, {scores, row, kLanes}, false);
            Lanes sum[kQueries];
            for (int i = 0; i < queries; ++i) {
                const Lanes greatest = greatest_of(scores + i * row, seen);
                exponentials<1>(scores + i * row, seen, &greatest, sum + i);
                if (a.lse) group.store_lse(first + i, Lanes::add(greatest, log2_lanes(sum[i])));
            }
            product({scores, row, kLanes}, {value, group.stride, kLanes}, queries, a.positions,
                    seen, {result, group.stride, kLanes}, false);
            for (int i = 0; i < queries; ++i) {
                group.scatter(result + i * group.stride, first + i, 1,
                              Lanes::div(Lanes::set(1.0f), sum[i]), a.out);
            }
        }
    }
}

// scores -> weights; dweights -> gradients of the scores. delta: gradient times result, summed.
void slice_gradient(const Group& group, int first, int count, int seen, const float* grad,
                    const float* out, float* scores, float* dweights) {
    const SliceAttention& a = group.a;
    const ptrdiff_t row = static_cast<ptrdiff_t>(a.tokens) * kLanes;
    for (int i = 0; i < count; ++i) {
        Lanes delta = Lanes::set(0.0f);
        for (int p = 0; p < a.positions; ++p) {
            const ptrdiff_t at = i * group.stride + p * kLanes;
            delta = Lanes::fma(Lanes::load(grad + at), Lanes::load(out + at), delta);
        }
        const Lanes lse = group.load_lse(first + i);
        for (int u = 0; u < seen; ++u) {
            float* const score = scores + i * row + u * kLanes;
            float* const dweight = dweights + i * row + u * kLanes;
            const Lanes weight = exp2_lanes(Lanes::sub(Lanes::load(score), lse));
            weight.store(score);
            Lanes::mul(weight, Lanes::sub(Lanes::load(dweight), delta)).store(dweight);
        }
    }
}

void attend_group_backward(const SliceAttention& a, int64_t number, float* scratch) {
    const Group group(a, number);
    const ptrdiff_t row = static_cast<ptrdiff_t>(a.tokens) * kLanes;
    const ptrdiff_t all = a.tokens * group.stride, one = a.slice() * group.stride;
    float* const key = scratch;
    float* const value = key + all;
    float* const dkey = value + all;
    float* const dvalue = dkey + all;
    float* const query = dvalue + all;
    float* const grad = query + one;
    float* const other = grad + one;  // the result, then the queries' gradient
    float* const scores = other + one;
    float* const dscores = scores + a.slice() * row;
    memset(dkey, 0, static_cast<size_t>(2 * all) * sizeof(float));
    group.gather(a.k, 0, a.tokens, 1.0f, key);
    group.gather(a.v, 0, a.tokens, 1.0f, value);
    for (int slice = 0; slice < a.slices; ++slice) {
        const int count = a.slice(), first = slice * count, seen = first + count;
        group.gather(a.q, first, count, kLog2E * score_scale(a), query);
        group.gather(a.grad, first, count, 1.0f, grad);
        group.gather(a.out, first, count, 1.0f, other);
        const Result s = {scores, row, kLanes}, ds = {dscores, row, kLanes};
        product({query, group.stride, kLanes}, {key, kLanes, group.stride}, count, seen,
                a.positions, s, false);
        product({grad, group.stride, kLanes}, {value, kLanes, group.stride}, count, seen,
                a.positions, ds, false);
        slice_gradient(group, first, count, seen, grad, other, scores, dscores);
        product({dscores, row, kLanes}, {key, group.stride, kLanes}, count, a.positions, seen,
                {other, group.stride, kLanes}, false);
        group.scatter(other, first, count, Lanes::set(score_scale(a)), a.dq);
        product({scores, kLanes, row}, {grad, group.stride, kLanes}, seen, a.positions, count,
                {dvalue, group.stride, kLanes}, true);
        product({dscores, kLanes, row}, {query, group.stride, kLanes}, seen, a.positions, count,
                {dkey, group.stride, kLanes}, true);
    }
    group.scatter(dvalue, 0, a.tokens, Lanes::set(1.0f), a.dv);
    // The queries carry log2(e) and the scale already.
    group.scatter(dkey, 0, a.tokens, Lanes::set(1.0f / kLog2E), a.dk);
}

}  // namespace

namespace flic::cpu::FLIC_ISA {

const SliceKernels slice_attention = {attend_group, attend_group_backward};

}  // namespace flic::cpu::FLIC_ISA
