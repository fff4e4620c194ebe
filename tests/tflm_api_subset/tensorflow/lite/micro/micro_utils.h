#ifndef KWS_TESTS_TFLM_API_SUBSET_MICRO_UTILS_H_
#define KWS_TESTS_TFLM_API_SUBSET_MICRO_UTILS_H_

#include "tensorflow/lite/micro/micro_interpreter.h"

namespace tflite {

int ElementCount(const TfLiteIntArray &dims);

}  // namespace tflite

#endif
