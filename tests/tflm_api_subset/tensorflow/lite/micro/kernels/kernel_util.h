#ifndef KWS_TESTS_TFLM_API_SUBSET_KERNEL_UTIL_H_
#define KWS_TESTS_TFLM_API_SUBSET_KERNEL_UTIL_H_

#include "tensorflow/lite/micro/micro_interpreter.h"

struct TfLiteEvalTensor {
  union {
    int32_t *i32;
  } data;
  TfLiteIntArray *dims;
  TfLiteType type;
};

namespace tflite {
namespace micro {

const TfLiteEvalTensor *GetEvalInput(const TfLiteContext *context, const TfLiteNode *node, int index);
TfLiteEvalTensor *GetEvalOutput(const TfLiteContext *context, const TfLiteNode *node, int index);

}  // namespace micro
}  // namespace tflite

#endif
