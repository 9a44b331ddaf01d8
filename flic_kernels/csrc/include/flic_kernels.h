/* The C interface of the native libraries to the Python packages; programs use flic.h.
 *
 * Plain C. flic_kernels/interface.py makes its ctypes declarations from both files, and a library
 * is taken only if it was compiled with the same ones (flic_abi). A function is described where it
 * is defined. No exception, no abort, no torch crosses it. Unless they say otherwise functions
 * return a FlicStatus; arrays are dense, in C order, and belong to the caller; `element` is 0 for
 * float32 and 1 for bfloat16; `threads` is at most 256.
 */
#pragma once
#include "include/flic.h"

/* The checksum of this file and flic.h, which the library was compiled with. */
FLIC_API uint32_t flic_abi(void);

/* Instruction sets, threads, the float environment. */

typedef void (*FlicParallel)(void (*work)(void*), void* data, unsigned threads, unsigned flags);
typedef int (*FlicMostThreads)(void);

FLIC_API uint64_t flic_default_float_environment(void);
FLIC_API uint64_t flic_exchange_float_environment(uint64_t mode);
FLIC_API int flic_isa_best(void);
FLIC_API int flic_isa(void);
FLIC_API int flic_forced_isa(void);
FLIC_API int flic_set_isa(int level);
FLIC_API int flic_bfloat16_isa_best(void);
FLIC_API int flic_bfloat16_isa(void);
FLIC_API int flic_forced_bfloat16_isa(void);
FLIC_API int flic_set_bfloat16_isa(int level);
FLIC_API void flic_watch(int descriptor);
FLIC_API int flic_stopped(void);
FLIC_API void flic_share_threads(FlicParallel parallel, FlicMostThreads most);

/* Operations (cpu/). */

typedef struct FlicLinearShape {
    int64_t outer, inner;
    int64_t outer_stride, inner_stride; /* in elements */
    int32_t channels, outputs, groups;  /* of a group */
    int32_t gelu;
    float eps;
} FlicLinearShape;

typedef struct FlicLinearParameters { /* each may be null */
    const float* bias;
    const float* norm_weight;
    const float* norm_bias;
} FlicLinearParameters;

typedef struct FlicLinearGradients {
    float* weight;
    float* bias;
    float* norm_weight;
    float* norm_bias;
} FlicLinearGradients;

typedef struct FlicFatShape {
    int32_t batch, height, width, channels, heads, window, modulation, shifted;
    float eps;
} FlicFatShape;

/* In the order of FATParameters in ops/fat_block.py. The products' weights have the type of x, the
 * others are float32. */
typedef struct FlicFatParameters {
    const void* conv1_1_weight;
    const float* conv1_1_bias;
    const float* norm1_weight;
    const float* norm1_bias;
    const void* qkv_weight;
    const float* tables[4];
    const void* proj_weight;
    const float* proj_bias;
    const float* norm2_weight;
    const float* norm2_bias;
    const void* expand_weight;
    const float* expand_bias;
    const void* contract_weight;
    const float* contract_bias;
    const float* complex_weight;
    const void* conv1_2_weight;
    const float* conv1_2_bias;
} FlicFatParameters;

/* Where the parameters' gradients go, all of them float32. */
typedef struct FlicFatGradients {
    float* conv1_1_weight;
    float* conv1_1_bias;
    float* norm1_weight;
    float* norm1_bias;
    float* qkv_weight;
    float* tables[4];
    float* proj_weight;
    float* proj_bias;
    float* norm2_weight;
    float* norm2_bias;
    float* expand_weight;
    float* expand_bias;
    float* contract_weight;
    float* contract_bias;
    float* complex_weight;
    float* conv1_2_weight;
    float* conv1_2_bias;
} FlicFatGradients;

FLIC_API int flic_conv3x3(const void* x, int element, int64_t batch, int height, int width,
                          int channels, const void* weight, const float* bias, int outputs,
                          int stride, int leaky, int shuffle, const float* gamma, const float* beta,
                          int inverse, const void* residual, void* out, int threads);
FLIC_API int flic_conv3x3_backward(const void* grad, const void* out, const void* x, int element,
                                   int64_t batch, int height, int width, int channels,
                                   const void* weight, int outputs, int stride, int shuffle,
                                   void* dx, float* dweight, float* dbias, int threads);
FLIC_API int flic_fat_block(const void* x, int element, const FlicFatParameters* parameters,
                            const FlicFatShape* shape, void* out, void* attended, float* lse,
                            int threads);
FLIC_API int flic_fat_block_backward(const void* grad, const void* x, const void* attended,
                                     float* lse, int element, const FlicFatParameters* parameters,
                                     const FlicFatShape* shape, void* dx,
                                     const FlicFatGradients* gradients, int threads);
FLIC_API int flic_frequency_modulation(const void* x, int x_element, const float* weight,
                                       const void* residual, int residual_element, void* out,
                                       int out_element, int64_t batch, int height, int width,
                                       int channels, int size, int threads);
FLIC_API int flic_frequency_modulation_backward(const void* grad, int grad_element, const void* x,
                                                int x_element, const float* weight, void* dx,
                                                float* dweight, int64_t batch, int height,
                                                int width, int channels, int size, int threads);
FLIC_API int flic_fused_linear(const void* x, int element, const FlicLinearShape* shape,
                               const void* weight, const FlicLinearParameters* parameters,
                               const void* residual, void* out, int threads);
FLIC_API int flic_fused_linear_backward(const void* grad, const void* x, int element,
                                        const FlicLinearShape* shape, const float* weight,
                                        const FlicLinearParameters* parameters, void* dx,
                                        const FlicLinearGradients* gradients, int threads);
FLIC_API int flic_gdn(const void* x, int element, int64_t rows, int channels, const float* gamma,
                      const float* beta, int inverse, const void* residual, void* out, int threads);
FLIC_API int flic_gdn_backward(const void* grad, const void* x, int element, int64_t rows,
                               int channels, const float* gamma, const float* beta, int inverse,
                               void* dx, float* dgamma, float* dbeta, int threads);
FLIC_API int flic_positional_encoding(const void* u, int element, int64_t batch, int height,
                                      int width, int channels, const float* const* parameters,
                                      int slices, int window, float eps, void* out, int threads);
FLIC_API int flic_positional_encoding_backward(const void* grad, const void* u, int element,
                                               int64_t batch, int height, int width, int channels,
                                               const float* const* parameters, int slices,
                                               int window, float eps, void* du,
                                               float* const* gradients, int threads);
FLIC_API int flic_slice_attention(const void* q, const void* k, const void* v, int element,
                                  void* out, float* lse, int64_t windows, int positions, int heads,
                                  int slices, int tokens, int threads);
FLIC_API int flic_slice_attention_backward(const void* q, const void* k, const void* v, int element,
                                           void* out, float* lse, const void* grad, void* dq,
                                           void* dk, void* dv, int64_t windows, int positions,
                                           int heads, int slices, int tokens, int threads);
FLIC_API int flic_window_attention(const void* qkv, int element, const float* const* tables,
                                   void* out, float* lse, int64_t batch, int height, int width,
                                   int heads, int dim, int window, int shifted, int threads);
FLIC_API int flic_window_attention_backward(const void* qkv, int element,
                                            const float* const* tables, void* out, float* lse,
                                            const void* grad, void* dqkv, float* const* dtables,
                                            int64_t batch, int height, int width, int heads,
                                            int dim, int window, int shifted, int threads);

/* The exact engine (exact/, docs/exact.md). */

typedef struct FlicEngine FlicEngine;
typedef struct FlicPicture FlicPicture;

FLIC_API const char* flic_exact_error(void);
FLIC_API int flic_exact_create(const int32_t* config, int config_fields, const char* const* names,
                               const float* const* data, const int64_t* sizes, int count, int isa,
                               int threads, FlicEngine** out);
FLIC_API int flic_exact_destroy(FlicEngine* engine);
FLIC_API int flic_exact_fingerprint(const FlicEngine* engine, uint64_t* out);
FLIC_API int flic_exact_hyper(FlicEngine* engine, const float* z_hat, int height, int width,
                              float* means, float* scales);
FLIC_API int flic_exact_begin(FlicEngine* engine, const float* means, const float* scales,
                              int height, int width, FlicPicture** out);
FLIC_API int flic_exact_open(FlicEngine* engine, const float* z_hat, int height, int width,
                             FlicPicture** out);
FLIC_API int flic_exact_slice(FlicPicture* picture, int i, const float* previous, float* means,
                              float* scales, float* corrections);
FLIC_API int flic_exact_end(FlicPicture* picture);
FLIC_API int flic_exact_hidden(const FlicPicture* picture, float* out, int64_t count);
FLIC_API int flic_exact_multiply_adds(const FlicPicture* picture, int64_t* out);
FLIC_API int flic_exact_fma_loop(int isa, int threads, int64_t iterations, double* multiply_adds);
FLIC_API int flic_exact_function(int function, const float* x, float* out, int64_t count, int isa);

/* The entropy coder (rans/, docs/rans.md). */

typedef struct FlicTables FlicTables;
typedef struct FlicTableRows FlicTableRows; /* the integers that tables are made from */
typedef struct FlicDecoder FlicDecoder;
typedef struct FlicBytes FlicBytes;

typedef struct FlicPush {
    const void* symbols; /* int8, int16 or int32 */
    const void* indexes; /* uint16 or int32 */
    int64_t count;
    const FlicTables* tables;
    int32_t symbol_bytes;
    int32_t index_bytes;
} FlicPush;

typedef struct FlicEncodeTable { /* what an encoder knows of a table */
    uint32_t first;              /* of its intervals */
    int16_t minimum;
    uint16_t escape;
} FlicEncodeTable;

typedef struct FlicTablesView { /* tables as the coders read them, wherever they lie */
    const FlicEncodeTable* encode;
    const uint32_t* locators;
    const uint8_t* busy; /* 1 where no symbol has 3/4 of the probability */
    const uint32_t* intervals;
    const uint64_t* buckets;
    uint32_t count;
} FlicTablesView;

/* A group of lanes at rest. Positions are byte offsets into a buffer that holds the words and the
 * escapes: what is still to be read, or what has been written. */
typedef struct FlicGroupRecord {
    uint32_t states[32];
    int64_t words, words_end;
    int64_t escapes, escapes_end;
    int64_t tail_symbols;
    int64_t pushes, pulled; /* decoder only */
    int32_t picture, group, groups;
    int32_t lanes;
    int32_t status; /* the first failure */
    int32_t unused;
} FlicGroupRecord;

FLIC_API int flic_rans_tables_new(int64_t count, const int64_t* first, const int32_t* minimum,
                                  const int32_t* frequencies, FlicTables** out);
FLIC_API int flic_rans_tables_bytes(const FlicTables* tables, int64_t* encoder, int64_t* decoder);
FLIC_API int flic_rans_tables_arrays(const FlicTables* tables, FlicTablesView* view,
                                     int64_t* bytes);
FLIC_API void flic_rans_tables_free(FlicTables* tables);
FLIC_API int flic_rans_quantise(int64_t count, const int64_t* sizes, const double* probabilities,
                                int32_t* frequencies);
FLIC_API int flic_rans_gaussian_tables(FlicTableRows** out);
FLIC_API int flic_rans_rows_arrays(const FlicTableRows* rows, const void** arrays, int64_t* bytes);
FLIC_API void flic_rans_rows_free(FlicTableRows* rows);
FLIC_API int flic_rans_encode(const FlicPush* pushes, int64_t count, int lanes, int groups,
                              FlicBytes** out);
FLIC_API int64_t flic_rans_bytes_size(const FlicBytes* bytes);
FLIC_API const uint8_t* flic_rans_bytes_data(const FlicBytes* bytes);
FLIC_API void flic_rans_bytes_free(FlicBytes* bytes);
FLIC_API int flic_rans_decoder_new(const uint8_t* data, int64_t size, FlicDecoder** out);
FLIC_API int flic_rans_decoder_pull(FlicDecoder* decoder, const void* indexes, int index_bytes,
                                    int64_t count, const FlicTables* tables, int32_t* out);
FLIC_API int flic_rans_decoder_close(const FlicDecoder* decoder);
FLIC_API void flic_rans_decoder_free(FlicDecoder* decoder);
FLIC_API int flic_rans_gaussian_indexes(const float* means, const float* scales, int64_t count,
                                        const int32_t* row_first, const int32_t* row_size,
                                        const uint16_t* cells, int32_t* indexes, int32_t* centers);
FLIC_API int flic_rans_records_open(const uint8_t* data, int64_t size, int picture, int64_t base,
                                    FlicGroupRecord* records, int* groups);
FLIC_API int flic_rans_records_close(const FlicGroupRecord* records, int groups, int64_t pushes,
                                     const uint8_t* buffer, FlicBytes** out);

/* Parts of flic.h's codec (codec/). */

FLIC_API int flic_z_tables(int channels, const float* quantiles, const float* const* matrices,
                           const float* const* biases, const float* const* factors,
                           FlicTableRows** out);
FLIC_API int flic_correct(const int32_t* y, const float* corrections, int64_t count, float step,
                          float* out);

/* The CUDA library (exact/cuda_engine.cu, rans/rans.cu); pointers to arrays are the device's. */

typedef struct FlicCudaEngine FlicCudaEngine;
typedef struct FlicCudaPicture FlicCudaPicture;
typedef struct CUstream_st* FlicStream; /* cudaStream_t */

typedef struct FlicWarpPush {
    const void* symbols; /* decoder: none. [pictures, count] */
    const void* indexes; /* [pictures, count] */
    int64_t count;
    FlicTablesView tables;
    int32_t symbol_bytes;
    int32_t index_bytes;
} FlicWarpPush;

typedef struct FlicGaussianGrid { /* rans/gaussian.h */
    const int32_t* row_first;     /* [121] */
    const int32_t* row_size;      /* [121] */
    const uint16_t* cells;        /* table of each cell; one element more may be read */
} FlicGaussianGrid;

FLIC_API const char* flic_exact_cuda_error(void);
FLIC_API int flic_exact_cuda_create(const int32_t* config, int config_fields,
                                    const char* const* names, const float* const* data,
                                    const int64_t* sizes, int count, int device,
                                    FlicCudaEngine** out);
FLIC_API int flic_exact_cuda_destroy(FlicCudaEngine* handle);
FLIC_API int flic_exact_cuda_fingerprint(const FlicCudaEngine* handle, uint64_t* out);
FLIC_API int flic_exact_cuda_hyper(FlicCudaEngine* handle, const float* z_hat, int height,
                                   int width, float* means, float* scales, FlicStream stream);
FLIC_API int flic_exact_cuda_open(FlicCudaEngine* handle, const float* z_hat, int height, int width,
                                  FlicStream stream, FlicCudaPicture** out);
FLIC_API int flic_exact_cuda_begin(FlicCudaEngine* handle, const float* means, const float* scales,
                                   int height, int width, FlicStream stream, FlicCudaPicture** out);
FLIC_API int flic_exact_cuda_slice(FlicCudaPicture* picture, int i, const float* previous,
                                   float* means, float* scales, float* corrections,
                                   FlicStream stream);
FLIC_API int flic_exact_cuda_end(FlicCudaPicture* picture);
FLIC_API int flic_rans_cuda_decode(FlicGroupRecord* records, int64_t count,
                                   const FlicWarpPush* push, const uint8_t* data, int32_t* out,
                                   FlicStream stream);
FLIC_API int flic_rans_cuda_close(FlicGroupRecord* records, int64_t count, FlicStream stream);
FLIC_API int flic_rans_cuda_encode(FlicGroupRecord* records, int64_t count,
                                   const FlicWarpPush* pushes, int push_count, uint8_t* buffer,
                                   int choose, FlicStream stream);
FLIC_API int flic_rans_cuda_gaussian_indexes(const float* means, const float* scales, int64_t count,
                                             const FlicGaussianGrid* grid, int32_t* indexes,
                                             int32_t* centers, FlicStream stream);
