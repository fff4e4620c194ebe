/* The model, run by TensorFlow Lite Micro (TFLM) in a static arena of kArenaBytes. Nothing is allocated after init. */

#ifndef KWS_SRC_INFERENCE_H_
#define KWS_SRC_INFERENCE_H_

#include <stddef.h>
#include <stdint.h>

#include "labels.h"
#include "model_params.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum KwsStatus {
  kKwsOk = 0,
  /* The linked TFLM reads another schema version. */
  kKwsSchemaMismatch,
  /* The model has an op that op_resolver.h does not register. */
  kKwsOpMissing,
  /* kArenaBytes is too small, or a kernel refuses its op. */
  kKwsArenaTooSmall,
  /* The model's input or output is not what model_params.h says. */
  kKwsShapeMismatch,
  /* The golden input of golden.h did not give the golden output. */
  kKwsSelfTestFailed,
  /* The interpreter failed to run the model, or init was not called. */
  kKwsInvokeFailed
} KwsStatus;

/* Loads the model and runs it once on the golden input. Call it once, before the others. */
KwsStatus kws_inference_init(void);

/* The model's input: kInputElements values of shape kInputShape, the last axis fastest; with a front end,
 * kws_window_write writes them. To be written anew before each run: the arena is used for other tensors too.
 * NULL before init. */
KwsInteger *kws_inference_input(void);

/* Runs the model. */
KwsStatus kws_inference_run(void);

/* The logits of the last run: kLabelCount values. NULL before init. */
const KwsInteger *kws_inference_output(void);

/* Bytes of the arena that the model takes on this target. */
size_t kws_inference_arena_used_bytes(void);

/* The code of a fault, such as "KWS_ARENA_TOO_SMALL", and what it means, in one sentence. */
const char *kws_status_name(KwsStatus status);
const char *kws_status_text(KwsStatus status);

#ifdef __cplusplus
}
#endif

#endif /* KWS_SRC_INFERENCE_H_ */
