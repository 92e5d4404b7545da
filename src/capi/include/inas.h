/* Finds what is salient in photos and camera frames. Generated from src/capi; do not edit. */

#ifndef INAS_H
#define INAS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// Red, green, blue in `planes[0]`; its pixel stride is ignored.
#define INAS_FORMAT_RGB8 0

// Red, green, blue and an ignored byte in `planes[0]`; its pixel stride is ignored.
#define INAS_FORMAT_RGBA8 1

// Y in `planes[0]`, V and U in turn in `planes[1]`; pixel strides are ignored.
#define INAS_FORMAT_NV21 2

// Y, U and V in `planes[0..3]`, as Android's `YUV_420_888`.
#define INAS_FORMAT_YUV420 3

// The built-in runtime.
#define INAS_RUNTIME_TRACT 0

// ONNX Runtime, whose shared library is loaded; only in builds with it.
#define INAS_RUNTIME_ONNX 1

// How a call ended.
typedef enum InasStatus {
  // It worked.
  INAS_STATUS_OK = 0,
  // A pointer that must not be null is.
  INAS_STATUS_NULL = 1,
  // A size, format, stride, rotation or option is wrong, or a buffer is too short.
  INAS_STATUS_ARGUMENT = 2,
  // A file cannot be read.
  INAS_STATUS_FILE = 3,
  // The model is damaged or no saliency network.
  INAS_STATUS_MODEL = 4,
  // The inference runtime cannot be opened or failed.
  INAS_STATUS_RUNTIME = 5,
  // A defect of this library; the model must not be used again.
  INAS_STATUS_INTERNAL = 6,
} InasStatus;

// A loaded model. It may be used from any thread; calls on one model wait for each other.
typedef struct InasModel InasModel;

// How to load a model. All zeros is a good start.
typedef struct InasOptions {
  // Threads of one inference; 0 for one.
  uint32_t threads;
  // `INAS_RUNTIME_…`
  uint32_t runtime;
  // Path of ONNX Runtime's library (UTF-8), or null to look for it.
  const char *onnx_library;
  // Width at which a model of open size runs, px; 0 for a model of fixed size.
  uint32_t width;
  // Height at which a model of open size runs, px; 0 for a model of fixed size.
  uint32_t height;
} InasOptions;

// One plane of a frame.
typedef struct InasPlane {
  // Its first pixel.
  const uint8_t *data;
  // Bytes that may be read from `data`.
  size_t len;
  // Bytes from one row to the next.
  size_t row_stride;
  // Bytes from one pixel to the next.
  size_t pixel_stride;
} InasPlane;

// A photo or a camera's frame.
typedef struct InasFrame {
  // Pixels a row.
  uint32_t width;
  // Rows.
  uint32_t height;
  // Degrees clockwise that make it upright: 0, 90, 180 or 270.
  uint32_t rotation;
  // `INAS_FORMAT_…`
  uint32_t format;
  // As the format says; the others are ignored.
  struct InasPlane planes[3];
} InasFrame;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// What the last call on this thread that failed said; never null, empty before the first. Valid until the next call
// on this thread fails.
const char *inas_last_error(void);

// The library's version, e.g. `0.1.0`.
const char *inas_version(void);

// Loads an ONNX file (`path` in UTF-8). `options` may be null. `*model` is null unless it worked.
//
// # Safety
//
// Pointers are null or valid; strings end with a zero byte.
enum InasStatus inas_model_load(const char *path,
                                const struct InasOptions *options,
                                struct InasModel **model);

// Loads an ONNX model from memory, which is not needed afterwards. `options` may be null. `*model` is null unless it
// worked.
//
// # Safety
//
// Pointers are null or valid, `data` for `len` bytes.
enum InasStatus inas_model_from_bytes(const uint8_t *data,
                                      size_t len,
                                      const struct InasOptions *options,
                                      struct InasModel **model);

// Frees a model; null is allowed. It must not be in use.
//
// # Safety
//
// `model` is null or came from this library and was not freed.
void inas_model_free(struct InasModel *model);

// Width and height of the network's input, px; the picture is resized to it.
//
// # Safety
//
// Pointers are null or valid.
enum InasStatus inas_model_input_size(const struct InasModel *model,
                                      uint32_t *width,
                                      uint32_t *height);

// Runs the network `runs` times, at most 1000: the first inferences are slower than the rest.
//
// # Safety
//
// `model` is null or valid.
enum InasStatus inas_model_warm_up(struct InasModel *model, uint32_t runs);

// Steadies the masks of a video: `weight` (at least 0, below 1) is the part that the mean of the frames before has.
// 0, the default, switches it off.
//
// # Safety
//
// `model` is null or valid.
enum InasStatus inas_model_set_smoothing(struct InasModel *model,
                                         float weight);

// Forgets the frames before, e.g. at a cut of the video.
//
// # Safety
//
// `model` is null or valid.
enum InasStatus inas_model_forget(struct InasModel *model);

// Finds what is salient in a frame: `mask` takes 0..255 for each pixel, lying as the frame does, its rows `row_stride`
// bytes apart. `inference_ms` may be null; it takes the time of the inference alone.
//
// # Safety
//
// Pointers are null or valid: the frame's planes and `mask` for the lengths given, without overlapping.
enum InasStatus inas_model_mask(struct InasModel *model,
                                const struct InasFrame *frame,
                                uint8_t *mask,
                                size_t mask_len,
                                size_t row_stride,
                                double *inference_ms);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* INAS_H */
