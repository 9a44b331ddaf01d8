/* FLIC, the learned image codec: models, pictures to .flic files and back, on a CPU.
 *
 *     FlicModel* model;
 *     if (flic_model_open("small.safetensors", &options, &model) != FLIC_OK) puts(flic_error());
 *
 * Plain C; examples/flic_ppm.c is a whole program. Functions return a FlicStatus unless they say
 * otherwise, and after any but FLIC_OK flic_error() says what went wrong in the calling thread; an
 * output is then worth nothing. No exception and no abort passes, nothing is printed, and buffers
 * are the caller's. A model may serve several threads at once. Files are the same to the bit, and
 * decode to the same integers, with any number of threads on every machine (docs/exact.md).
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
#define FLIC_API extern "C" __attribute__((visibility("default")))
#else
#define FLIC_API extern
#endif

enum FlicStatus {
    FLIC_OK = 0,
    FLIC_BAD_ARGUMENT = 1, /* null pointer, negative size, impossible option */
    FLIC_OUT_OF_MEMORY = 2,
    FLIC_NOT_FINITE = 3,           /* NaN or infinity where a finite number is needed */
    FLIC_BAD_INDEX = 4,            /* a table index outside the tables */
    FLIC_STOPPED = 5,              /* as the caller asked */
    FLIC_NO_SUCH_ISA = 6,          /* the machine lacks the instruction set asked for */
    FLIC_BAD_TABLES = 7,           /* frequencies that do not form tables */
    FLIC_CUDA_ERROR = 8,           /* a kernel could not be launched */
    FLIC_MEMORY_LIMIT = 9,         /* more would be needed than FlicOptions allows */
    FLIC_BUFFER_TOO_SMALL = 10,    /* what comes out does not fit */
    FLIC_BAD_MODEL = 11,           /* not a model's file, or weights that cannot code */
    FLIC_BAD_FILE = 12,            /* not a .flic file, or a damaged one */
    FLIC_TRUNCATED = 13,           /* a .flic file that ends early */
    FLIC_UNSUPPORTED_VERSION = 14, /* of the file's format or its arithmetic */
    FLIC_OTHER_MODEL = 15,         /* another model made the file */
    FLIC_MISMATCH = 16,            /* a stream decodes to other integers than were encoded */
    FLIC_CORRUPT_HEADER = 20,      /* rANS stream: the header is malformed */
    FLIC_CORRUPT_STATES = 21,      /* rANS stream: lane states are malformed */
    FLIC_CORRUPT_WORDS = 22,       /* rANS stream: words run out */
    FLIC_CORRUPT_ESCAPE = 23,      /* rANS stream: an escape is malformed or missing */
    FLIC_CORRUPT_END = 24,         /* rANS stream: wrong end state, or data left over */
    FLIC_CORRUPT_PULLS = 25,       /* rANS stream: more or fewer pulls than pushes */
};

/* What went wrong in this thread's last call, one line; empty if nothing did. */
FLIC_API const char* flic_error(void);

/* Told how many of how many parts are done, a part being a tile analysed, coded, decoded or drawn;
 * in the calling thread. Anything but 0 stops the work. */
typedef int (*FlicProgress)(void* user, int32_t done, int32_t parts);

typedef struct FlicOptions { /* a null pointer stands for all zeros */
    int32_t threads;         /* 1 to 256; 0: 1 */
    int32_t bfloat16;        /* 1: g_a and g_s compute in bfloat16, faster and a little less exact;
                                what feeds the coding tables is float32 in any case */
    int64_t memory_limit;    /* bytes: what is sure to need more is refused; 0: none */
    FlicProgress progress;   /* null: nobody is told */
    void* user;              /* handed to progress */
    const int32_t* stop;     /* null, or becomes other than 0 when work is to stop, soon and with
                                FLIC_STOPPED; another thread or a signal handler sets it by an
                                atomic store */
} FlicOptions;

/* Models */

typedef struct FlicModel FlicModel;

typedef struct FlicModelInfo {
    uint8_t fingerprint[8]; /* SHA-256 of the weights, its beginning; files carry it */
    int32_t widths[3], heads[3];
    int32_t latent, hyper, slices, ratio, depth;
} FlicModelInfo;

/* A model from a safetensors file as flic writes them (`flic convert` makes one of a published
 * checkpoint). float32, float16 or bfloat16; it is mapped, not read whole. */
FLIC_API int flic_model_open(const char* path, const FlicOptions* options, FlicModel** out);
/* The same of a file in memory, which stays there as long as the model. */
FLIC_API int flic_model_open_memory(const void* data, size_t size, const FlicOptions* options,
                                    FlicModel** out);
/* When no call works with it any longer. Null is nothing. */
FLIC_API void flic_model_close(FlicModel* model);
FLIC_API int flic_model_info(const FlicModel* model, FlicModelInfo* out);
/* A text of the file's metadata, null where there is none. "quality_steps": the steps of qualities
 * 0 and 100, as in "4 0.25". */
FLIC_API const char* flic_model_metadata(const FlicModel* model, const char* key);

/* Pictures and files */

typedef struct FlicImage { /* 8-bit samples */
    uint8_t* pixels;       /* channels of a pixel side by side; read only by what encodes */
    int64_t stride;        /* bytes from a row to the next; 0: rows are dense */
    int32_t width, height;
    int32_t channels; /* 3: red, green, blue; 1: gray */
} FlicImage;

typedef struct FlicSection { /* null: the file has none */
    const uint8_t* data;
    size_t size;
} FlicSection;

typedef struct FlicSections { /* as files carry them */
    FlicSection alpha;        /* a PNG file, 8-bit gray, of the picture's size */
    FlicSection icc, exif;    /* compressed by zlib; EXIF from its TIFF header on */
} FlicSections;

typedef struct FlicHeader {
    int32_t width, height;
    int32_t channels; /* 3, or 1 for gray */
    int32_t version;  /* of the format, docs/format.md */
    int32_t tile;     /* the tiles' side in pixels; 0: coded whole */
    float step;       /* the quantisation step */
    uint8_t fingerprint[8];
    FlicSections sections; /* inside the file's bytes */
} FlicHeader;

typedef struct FlicRegion { /* pixels */
    int32_t x, y, width, height;
} FlicRegion;

/* What a .flic file says; all but the picture's streams is checked. */
FLIC_API int flic_header(const uint8_t* file, size_t size, FlicHeader* out);

/* The picture, or a region of it (null: all), into `out`, whose size and channels are those of the
 * region and of the file's header. Only the streams that the region needs are decoded. */
FLIC_API int flic_decode(FlicModel* model, const uint8_t* file, size_t size,
                         const FlicRegion* region, const FlicOptions* options,
                         const FlicImage* out);
/* Decodes all but the picture itself and compares checksums. */
FLIC_API int flic_verify(FlicModel* model, const uint8_t* file, size_t size,
                         const FlicOptions* options);

/* A picture in the course of being encoded. It may be coded at several steps, to search one for a
 * size or a quality. */
typedef struct FlicEncoder FlicEncoder;

#define FLIC_TILE_AUTO 0 /* whole up to 2^22 pixels, tiles of 1024 beyond */
#define FLIC_TILE_NONE (-1)

/* tile: one of these, or the tiles' side in pixels, a multiple of 128. again: 1 where the picture
 * will be coded more than once: what g_a and h_a give is kept then, which is most of the time and
 * a few bytes a pixel; in the first call's bfloat16 or not. Model and image outlive the encoder. */
FLIC_API int flic_encoder_new(FlicModel* model, const FlicImage* image, int32_t tile, int32_t again,
                              FlicEncoder** out);
/* Codes it at a step, 1/64 to 64: greater for smaller files, 1 for the rate that the model was
 * trained for. Gives the file's size. */
FLIC_API int flic_encoder_code(FlicEncoder* encoder, float step, const FlicSections* sections,
                               const FlicOptions* options, size_t* size);
/* The file that was coded last. */
FLIC_API int flic_encoder_file(const FlicEncoder* encoder, uint8_t* out, size_t capacity);
/* What that file decodes to; only of an encoder that codes again. */
FLIC_API int flic_encoder_picture(FlicEncoder* encoder, const FlicOptions* options,
                                  const FlicImage* out);
FLIC_API void flic_encoder_free(FlicEncoder* encoder);
