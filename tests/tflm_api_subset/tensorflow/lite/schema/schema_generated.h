#ifndef KWS_TESTS_TFLM_API_SUBSET_SCHEMA_H_
#define KWS_TESTS_TFLM_API_SUBSET_SCHEMA_H_

#include <stdint.h>

namespace tflite {

enum BuiltinOperator : int32_t { BuiltinOperator_ADD = 0 };

struct OperatorCode {};

struct OperatorCodes {
  const OperatorCode *const *begin() const;
  const OperatorCode *const *end() const;
};

struct Model {
  uint32_t version() const;
  const OperatorCodes *operator_codes() const;
};

const Model *GetModel(const void *data);

}  // namespace tflite

#endif
