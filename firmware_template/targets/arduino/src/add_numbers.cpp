#include <Chirale_TensorFlowLite.h>

#include "add_numbers.h"

#include <stdint.h>

#include "tensorflow/lite/micro/kernels/kernel_util.h"
#include "tensorflow/lite/micro/micro_utils.h"

namespace {

kws::AddRegistration library_add;

TfLiteStatus AddNumbers(TfLiteContext *context, TfLiteNode *node) {
  TfLiteEvalTensor *output = tflite::micro::GetEvalOutput(context, node, 0);
  if (output->type != kTfLiteInt32) {
    return library_add.invoke(context, node);
  }
  const TfLiteEvalTensor *numbers = tflite::micro::GetEvalInput(context, node, 0);
  const TfLiteEvalTensor *offset = tflite::micro::GetEvalInput(context, node, 1);
  const int count = tflite::ElementCount(*output->dims);
  if (tflite::ElementCount(*numbers->dims) != count || tflite::ElementCount(*offset->dims) != 1) {
    return kTfLiteError;
  }
  for (int i = 0; i < count; ++i) {
    output->data.i32[i] = numbers->data.i32[i] + offset->data.i32[0];
  }
  return kTfLiteOk;
}

}  // namespace

namespace kws {

AddRegistration RegisterAdd() {
  library_add = tflite::Register_ADD();
  AddRegistration registration = library_add;
  registration.invoke = AddNumbers;
  return registration;
}

}  // namespace kws
