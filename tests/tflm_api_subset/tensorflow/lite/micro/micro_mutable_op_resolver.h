#ifndef KWS_TESTS_TFLM_API_SUBSET_OP_RESOLVER_H_
#define KWS_TESTS_TFLM_API_SUBSET_OP_RESOLVER_H_

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };

#include "tensorflow/lite/schema/schema_generated.h"

struct TFLMRegistration {};

namespace tflite {

TFLMRegistration Register_FULLY_CONNECTED();
TFLMRegistration Register_FULLY_CONNECTED_INT8();
TFLMRegistration Register_FULLY_CONNECTED_INT16();

class MicroOpResolver {
 public:
  virtual const TFLMRegistration *FindOp(BuiltinOperator op) const = 0;

 protected:
  ~MicroOpResolver() = default;
};

template <unsigned int tOpCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  const TFLMRegistration *FindOp(BuiltinOperator op) const override;
  TfLiteStatus AddFullyConnected(const TFLMRegistration &registration = Register_FULLY_CONNECTED());
};

}  // namespace tflite

#endif
