#include "inference.h"

#include <math.h>

#include "model_data.h"
#include "op_resolver.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

#ifndef TF_LITE_STATIC_MEMORY
#error "Define TF_LITE_STATIC_MEMORY: else TensorFlow Lite Micro's tensors are laid out otherwise than in its library."
#endif

static_assert(static_cast<int>(kOutputElements) == static_cast<int>(kLabelCount), "one logit a label");

namespace {

alignas(16) uint8_t arena[kArenaBytes];
tflite::MicroInterpreter *interpreter = nullptr;

constexpr TfLiteType kIntegerType = sizeof(KwsInteger) == 1 ? kTfLiteInt8 : kTfLiteInt16;

bool IsIntegerOf(const TfLiteTensor *tensor, const int32_t *shape, int rank) {
  if (tensor == nullptr || tensor->type != kIntegerType || tensor->dims->size != rank) {
    return false;
  }
  for (int axis = 0; axis < rank; ++axis) {
    if (tensor->dims->data[axis] != shape[axis]) {
      return false;
    }
  }
  return true;
}

KwsInteger *Values(const TfLiteTensor *tensor) { return static_cast<KwsInteger *>(tensor->data.data); }

// The zero point cancels out, and subtracting the largest logit keeps expf in range.
void Softmax(const KwsInteger *logits, float *posteriors) {
  int largest = logits[0];
  for (int i = 1; i < kOutputElements; ++i) {
    largest = logits[i] > largest ? logits[i] : largest;
  }
  float sum = 0.0f;
  for (int i = 0; i < kOutputElements; ++i) {
    posteriors[i] = expf(kOutputScale * static_cast<float>(logits[i] - largest));
    sum += posteriors[i];
  }
  for (int i = 0; i < kOutputElements; ++i) {
    posteriors[i] /= sum;
  }
}

}  // namespace

KwsInferenceStatus kws_inference_init(void) {
  const tflite::Model *model = tflite::GetModel(kModelData);
  if (model->version() != TFLITE_SCHEMA_VERSION) {
    return kKwsInferenceSchemaMismatch;
  }
  static kws::OpResolver resolver;
  if (kws::RegisterOps(resolver) != kTfLiteOk) {
    return kKwsInferenceOpMissing;
  }
  static tflite::MicroInterpreter static_interpreter(model, resolver, arena, kArenaBytes);
  if (static_interpreter.AllocateTensors() != kTfLiteOk) {
    return kKwsInferenceAllocationFailed;
  }
  if (!IsIntegerOf(static_interpreter.input(0), kInputShape, kInputRank) ||
      !IsIntegerOf(static_interpreter.output(0), kOutputShape, kOutputRank)) {
    return kKwsInferenceShapeMismatch;
  }
  interpreter = &static_interpreter;
  return kKwsInferenceOk;
}

KwsInteger *kws_inference_input(void) { return interpreter == nullptr ? nullptr : Values(interpreter->input(0)); }

KwsInferenceStatus kws_inference_run(float *posteriors) {
  if (interpreter == nullptr || interpreter->Invoke() != kTfLiteOk) {
    return kKwsInferenceInvokeFailed;
  }
  Softmax(Values(interpreter->output(0)), posteriors);
  return kKwsInferenceOk;
}

size_t kws_inference_arena_used_bytes(void) { return interpreter == nullptr ? 0 : interpreter->arena_used_bytes(); }

const char *kws_inference_status_text(KwsInferenceStatus status) {
  switch (status) {
    case kKwsInferenceOk:
      return "the model runs";
    case kKwsInferenceSchemaMismatch:
      return "this TensorFlow Lite Micro reads another schema version than the model's";
    case kKwsInferenceOpMissing:
      return "the op resolver refused an op";
    case kKwsInferenceAllocationFailed:
      return "the arena is too small or the library lacks an op: raise kArenaBytes or look at the library";
    case kKwsInferenceShapeMismatch:
      return "the model's input or output is not what generated/model_params.h says: run kws headers again";
    case kKwsInferenceInvokeFailed:
      return "the interpreter failed to run the model";
  }
  return "unknown status";
}
