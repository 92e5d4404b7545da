/* The mask of a binary PPM photo as a PGM picture: mask MODEL.onnx PHOTO.ppm MASK.pgm */
#include <stdio.h>
#include <stdlib.h>

#include "inas.h"

static int fail(const char *what) {
    fprintf(stderr, "error: %s: %s\n", what, inas_last_error());
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: mask MODEL.onnx PHOTO.ppm MASK.pgm\n");
        return 2;
    }
    InasOptions options = {0};
    options.threads = 2;
    InasModel *model = NULL;
    if (inas_model_load(argv[1], &options, &model) != INAS_STATUS_OK) return fail(argv[1]);

    FILE *in = fopen(argv[2], "rb");
    unsigned width = 0, height = 0;
    if (!in || fscanf(in, "P6 %u %u 255", &width, &height) != 2 || fgetc(in) == EOF) {
        fprintf(stderr, "error: %s is no binary PPM file\n", argv[2]);
        return 1;
    }
    size_t area = (size_t)width * height;
    uint8_t *pixels = malloc(3 * area), *mask = malloc(area);
    if (!pixels || !mask || fread(pixels, 3, area, in) != area) {
        fprintf(stderr, "error: %s is cut short\n", argv[2]);
        return 1;
    }
    fclose(in);

    InasFrame frame = {0};
    frame.width = width;
    frame.height = height;
    frame.format = INAS_FORMAT_RGB8;
    frame.planes[0].data = pixels;
    frame.planes[0].len = 3 * area;
    frame.planes[0].row_stride = 3 * (size_t)width;
    double ms = 0;
    if (inas_model_mask(model, &frame, mask, area, width, &ms) != INAS_STATUS_OK) return fail("mask");
    printf("inas %s: %u x %u px in %.2f ms\n", inas_version(), width, height, ms);

    FILE *out = fopen(argv[3], "wb");
    if (!out || fprintf(out, "P5 %u %u 255\n", width, height) < 0 || fwrite(mask, 1, area, out) != area || fclose(out)) {
        fprintf(stderr, "error: cannot write %s\n", argv[3]);
        return 1;
    }
    inas_model_free(model);
    free(pixels);
    free(mask);
    return 0;
}
