#ifndef KWS_TESTS_TFLM_API_SUBSET_OP_RESOLVER_H_
#define KWS_TESTS_TFLM_API_SUBSET_OP_RESOLVER_H_

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };

namespace tflite {

class MicroOpResolver {};

template <unsigned int tOpCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  TfLiteStatus AddAdd();
  TfLiteStatus AddAveragePool2D();
  TfLiteStatus AddConcatenation();
  TfLiteStatus AddConv2D();
  TfLiteStatus AddDepthwiseConv2D();
  TfLiteStatus AddFullyConnected();
  TfLiteStatus AddLogistic();
  TfLiteStatus AddMul();
  TfLiteStatus AddPad();
  TfLiteStatus AddSlice();
};

}  // namespace tflite

#endif
