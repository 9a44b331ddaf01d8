/* flic_ppm encode|decode MODEL FROM TO [STEP]: binary PPM without comments to .flic, and back.
 *     cc -I flic_kernels/csrc/include examples/flic_ppm.c -o flic_ppm \
 *         -L flic_kernels -lflic_kernels -Wl,-rpath,"$PWD/flic_kernels" */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flic.h"
static void need(int fine, const char* what) {
    if (!fine) fprintf(stderr, "error: %s\n", what), exit(1);
}
static void done(int status) { need(status == FLIC_OK, flic_error()); }
static int tell(void* what, int32_t done, int32_t parts) {
    fprintf(stderr, "%s: %d of %d\n", (const char*)what, (int)done, (int)parts);
    return 0; /* go on */
}

static void encode(FlicModel* model, const FlicOptions* options, float step, FILE* from, FILE* to) {
    int width, height, end = 0;
    const int read = fscanf(from, "P6 %5d %5d 255%n", &width, &height, &end);
    need(read == 2 && end && fgetc(from) != EOF && width > 0 && height > 0, "no PPM picture");
    size_t size = 3 * (size_t)width * (size_t)height;
    FlicImage image = {.width = width, .height = height, .channels = 3, .pixels = malloc(size)};
    need(image.pixels && fread(image.pixels, 1, size, from) == size, "the picture ends early");
    FlicEncoder* encoder;
    done(flic_encoder_new(model, &image, FLIC_TILE_AUTO, 0, &encoder));
    done(flic_encoder_code(encoder, step, NULL, options, &size));
    uint8_t* file = malloc(size);
    done(flic_encoder_file(encoder, file, size));
    need(fwrite(file, 1, size, to) == size, "TO cannot be written");
    flic_encoder_free(encoder), free(file), free(image.pixels);
}

static void decode(FlicModel* model, const FlicOptions* options, FILE* from, FILE* to) {
    uint8_t* file = malloc(1 << 29); /* no .flic file is larger */
    const size_t read = file ? fread(file, 1, 1 << 29, from) : 0;
    FlicHeader is;
    done(flic_header(file, read, &is));
    const size_t size = (size_t)is.width * (size_t)is.height * (size_t)is.channels;
    FlicImage image = {malloc(size), 0, is.width, is.height, is.channels};
    done(flic_decode(model, file, read, NULL, options, &image));
    fprintf(to, "P%c %d %d 255\n", is.channels == 3 ? '6' : '5', (int)is.width, (int)is.height);
    need(fwrite(image.pixels, 1, size, to) == size, "TO cannot be written");
    free(file), free(image.pixels);
}

int main(int argc, char** argv) {
    const int encodes = argc >= 5 && !strcmp(argv[1], "encode");
    need((encodes && argc <= 6) || (argc == 5 && !strcmp(argv[1], "decode")),
         "use: flic_ppm encode|decode MODEL FROM TO [STEP]");
    const FlicOptions options = {.threads = 4, .progress = tell, .user = argv[1]};
    FlicModel* model;
    done(flic_model_open(argv[2], &options, &model));
    FILE *from = fopen(argv[3], "rb"), *to = from ? fopen(argv[4], "wb") : NULL;
    need(to != NULL, from ? "TO cannot be opened" : "FROM cannot be opened");
    const float step = argc == 6 ? strtof(argv[5], NULL) : 1;
    encodes ? encode(model, &options, step, from, to) : decode(model, &options, from, to);
    need(!fclose(to) && !fclose(from), "TO cannot be written");
    flic_model_close(model);
}
