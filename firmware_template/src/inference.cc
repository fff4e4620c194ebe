// A package for a board says there what its SDK demands.
#if __has_include("board_config.h")
#include "board_config.h"
#endif

#include "inference.h"

#include <string.h>

#include "golden.h"
#include "model_data.h"
#include "op_resolver.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"
#include "tensorflow/lite/schema/schema_utils.h"

#if !defined(TF_LITE_STATIC_MEMORY) && !defined(KWS_TFLM_WITHOUT_STATIC_MEMORY)
#error "Define TF_LITE_STATIC_MEMORY: else TensorFlow Lite Micro's tensors are laid out otherwise than in its library."
#endif
#if defined(__arm__) && !defined(CMSIS_NN) && !defined(KWS_REFERENCE_KERNELS)
#error "Define CMSIS_NN (CMake: TFLM_CMSIS_NN), or the slow kernels are linked; or KWS_REFERENCE_KERNELS to want them."
#endif
#ifndef KWS_ARENA_BYTES
#define KWS_ARENA_BYTES kArenaBytes
#endif
// How far the self-test lets a logit be from the golden one, for kernels that round otherwise than those of kws: so many
// steps of int8, 16 times as many of int16.
#ifndef KWS_SELF_TEST_STEPS
#define KWS_SELF_TEST_STEPS 0
#endif

static_assert(static_cast<int>(kOutputElements) == static_cast<int>(kLabelCount), "one logit a label");

namespace {

alignas(16) uint8_t arena[KWS_ARENA_BYTES];
constexpr size_t kLeastBytes = static_cast<size_t>(kArenaLeastBytes);
tflite::MicroInterpreter *interpreter = nullptr;

constexpr TfLiteType kIntegerType = sizeof(KwsInteger) == 1 ? kTfLiteInt8 : kTfLiteInt16;

bool HasAllOps(const tflite::Model *model, const kws::OpResolver &resolver) {
  for (const auto *code : *model->operator_codes()) {
    if (resolver.FindOp(tflite::GetBuiltinCode(code)) == nullptr) {
      return false;
    }
  }
  return true;
}

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

#ifndef KWS_NO_SELF_TEST
constexpr int kSelfTestSteps = KWS_SELF_TEST_STEPS * (sizeof(KwsInteger) == 1 ? 1 : 16);

bool IsGolden(const KwsInteger *logits) {
  for (int i = 0; i < kOutputElements; ++i) {
    const int distance = logits[i] - kGoldenOutput[i];
    if (distance < -kSelfTestSteps || distance > kSelfTestSteps) {
      return false;
    }
  }
  return true;
}
#endif

KwsStatus SelfTest() {
#ifndef KWS_NO_SELF_TEST
  memcpy(kws_inference_input(), kGoldenInput, sizeof(kGoldenInput));
  const KwsStatus status = kws_inference_run();
  if (status != kKwsOk) {
    return status;
  }
  if (!IsGolden(kws_inference_output())) {
    return kKwsSelfTestFailed;
  }
#endif
  return kKwsOk;
}

}  // namespace

KwsStatus kws_inference_init(void) {
  if (sizeof(arena) < kLeastBytes) {
    return kKwsArenaTooSmall;
  }
  const tflite::Model *model = tflite::GetModel(kModelData);
  if (model->version() != TFLITE_SCHEMA_VERSION) {
    return kKwsSchemaMismatch;
  }
  static kws::OpResolver resolver;
  if (kws::RegisterOps(resolver) != kTfLiteOk || !HasAllOps(model, resolver)) {
    return kKwsOpMissing;
  }
  static tflite::MicroInterpreter static_interpreter(model, resolver, arena, sizeof(arena));
  if (static_interpreter.AllocateTensors() != kTfLiteOk) {
    return kKwsArenaTooSmall;
  }
  if (!IsIntegerOf(static_interpreter.input(0), kInputShape, kInputRank) ||
      !IsIntegerOf(static_interpreter.output(0), kOutputShape, kOutputRank)) {
    return kKwsShapeMismatch;
  }
  interpreter = &static_interpreter;
  return SelfTest();
}

KwsInteger *kws_inference_input(void) { return interpreter == nullptr ? nullptr : Values(interpreter->input(0)); }

KwsStatus kws_inference_run(void) {
  return interpreter != nullptr && interpreter->Invoke() == kTfLiteOk ? kKwsOk : kKwsInvokeFailed;
}

const KwsInteger *kws_inference_output(void) {
  return interpreter == nullptr ? nullptr : Values(interpreter->output(0));
}

size_t kws_inference_arena_used_bytes(void) { return interpreter == nullptr ? 0 : interpreter->arena_used_bytes(); }

const char *kws_status_name(KwsStatus status) {
  switch (status) {
    case kKwsOk:
      return "KWS_OK";
    case kKwsSchemaMismatch:
      return "KWS_SCHEMA_MISMATCH";
    case kKwsOpMissing:
      return "KWS_OP_MISSING";
    case kKwsArenaTooSmall:
      return "KWS_ARENA_TOO_SMALL";
    case kKwsShapeMismatch:
      return "KWS_SHAPE_MISMATCH";
    case kKwsSelfTestFailed:
      return "KWS_SELF_TEST_FAILED";
    case kKwsInvokeFailed:
      return "KWS_INVOKE_FAILED";
  }
  return "KWS_UNKNOWN";
}

const char *kws_status_text(KwsStatus status) {
  switch (status) {
    case kKwsOk:
      return "the model runs";
    case kKwsSchemaMismatch:
      return "this TensorFlow Lite Micro reads another schema version than the model's";
    case kKwsOpMissing:
      return "the model has an op that generated/op_resolver.h lacks: run kws headers again";
    case kKwsArenaTooSmall:
      return "the arena is too small, or a kernel refuses its op: raise KWS_ARENA_BYTES and read TFLM's log";
    case kKwsShapeMismatch:
      return "the model's input or output is not what generated/model_params.h says: run kws headers again";
    case kKwsSelfTestFailed:
      return "the golden input gives another output than with the kernels of kws: look at library and compiler flags";
    case kKwsInvokeFailed:
      return "the interpreter failed to run the model";
  }
  return "unknown status";
}
