#ifndef KWS_TESTS_TFLM_API_SUBSET_OP_RESOLVER_H_
#define KWS_TESTS_TFLM_API_SUBSET_OP_RESOLVER_H_

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };

#include "tensorflow/lite/schema/schema_generated.h"

struct TfLiteContext;
struct TfLiteNode;

struct TFLMRegistration {
  TfLiteStatus (*invoke)(TfLiteContext *context, TfLiteNode *node);
};

namespace tflite {

TFLMRegistration Register_ADD();
TFLMRegistration Register_ADD_INT8();
TFLMRegistration Register_ADD_INT16();
TFLMRegistration Register_AVERAGE_POOL_2D();
TFLMRegistration Register_AVERAGE_POOL_2D_INT8();
TFLMRegistration Register_AVERAGE_POOL_2D_INT16();
TFLMRegistration Register_CONV_2D();
TFLMRegistration Register_CONV_2D_INT8();
TFLMRegistration Register_CONV_2D_INT16();
TFLMRegistration Register_DEPTHWISE_CONV_2D();
TFLMRegistration Register_DEPTHWISE_CONV_2D_INT8();
TFLMRegistration Register_DEPTHWISE_CONV_2D_INT16();
TFLMRegistration Register_FULLY_CONNECTED();
TFLMRegistration Register_FULLY_CONNECTED_INT8();
TFLMRegistration Register_FULLY_CONNECTED_INT16();
TFLMRegistration Register_MAX_POOL_2D();
TFLMRegistration Register_MAX_POOL_2D_INT8();
TFLMRegistration Register_MAX_POOL_2D_INT16();
TFLMRegistration Register_MUL();
TFLMRegistration Register_MUL_INT8();
TFLMRegistration Register_SOFTMAX();
TFLMRegistration Register_SOFTMAX_INT8();
TFLMRegistration Register_SOFTMAX_INT16();

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
  TfLiteStatus AddAdd(const TFLMRegistration &registration = Register_ADD());
  TfLiteStatus AddAveragePool2D(const TFLMRegistration &registration = Register_AVERAGE_POOL_2D());
  TfLiteStatus AddConv2D(const TFLMRegistration &registration = Register_CONV_2D());
  TfLiteStatus AddDepthwiseConv2D(const TFLMRegistration &registration = Register_DEPTHWISE_CONV_2D());
  TfLiteStatus AddFullyConnected(const TFLMRegistration &registration = Register_FULLY_CONNECTED());
  TfLiteStatus AddMaxPool2D(const TFLMRegistration &registration = Register_MAX_POOL_2D());
  TfLiteStatus AddMul(const TFLMRegistration &registration = Register_MUL());
  TfLiteStatus AddSoftmax(const TFLMRegistration &registration = Register_SOFTMAX());
  TfLiteStatus AddConcatenation();
  TfLiteStatus AddLogistic();
  TfLiteStatus AddPad();
  TfLiteStatus AddReshape();
  TfLiteStatus AddSlice();
};

}  // namespace tflite

#endif
