/* The model, run by TensorFlow Lite Micro in a static arena of kArenaBytes. */

#ifndef KWS_SRC_INFERENCE_H_
#define KWS_SRC_INFERENCE_H_

#include <stddef.h>
#include <stdint.h>

#include "labels.h"
#include "model_params.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum KwsInferenceStatus {
  kKwsInferenceOk = 0,
  /* The linked TensorFlow Lite Micro reads another schema version. */
  kKwsInferenceSchemaMismatch,
  /* The op resolver refused an op. */
  kKwsInferenceOpMissing,
  /* An op is missing in the linked library, or kArenaBytes is too small. */
  kKwsInferenceAllocationFailed,
  /* The interpreter's input or output is not what model_params.h says. */
  kKwsInferenceShapeMismatch,
  /* The interpreter failed to run the model, or init was not called. */
  kKwsInferenceInvokeFailed
} KwsInferenceStatus;

/* Call it once, before the others. */
KwsInferenceStatus kws_inference_init(void);

/* The model's input: kInputElements values of shape kInputShape, the last axis fastest; with a front end,
 * kws_frontend_write_input writes them. To be written anew before each run: the arena is used for other tensors too. */
KwsInteger *kws_inference_input(void);

/* Runs the model. `posteriors` gets kLabelCount probabilities that sum to 1: softmax of the logits. */
KwsInferenceStatus kws_inference_run(float *posteriors);

/* Bytes of the arena that the model takes on this target. */
size_t kws_inference_arena_used_bytes(void);

/* What went wrong, in one sentence. */
const char *kws_inference_status_text(KwsInferenceStatus status);

#ifdef __cplusplus
}
#endif

#endif /* KWS_SRC_INFERENCE_H_ */
