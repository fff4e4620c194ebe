#ifndef KWS_TESTS_TFLM_API_SUBSET_SCHEMA_UTILS_H_
#define KWS_TESTS_TFLM_API_SUBSET_SCHEMA_UTILS_H_

#include "tensorflow/lite/schema/schema_generated.h"

namespace tflite {

BuiltinOperator GetBuiltinCode(const OperatorCode *code);

}  // namespace tflite

#endif
