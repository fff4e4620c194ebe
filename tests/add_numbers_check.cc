// The ADD of the Arduino package on tensors made here, with a library that only tells that it was asked. Prints a line a
// call: what it returns and the numbers it wrote.

#include <stdio.h>

#include "add_numbers.h"
#include "tensorflow/lite/micro/kernels/kernel_util.h"
#include "tensorflow/lite/micro/micro_utils.h"

struct TfLiteContext {};
struct TfLiteNode {
  TfLiteEvalTensor inputs[2];
  TfLiteEvalTensor output;
};

namespace {

TfLiteStatus LibraryInvoke(TfLiteContext *, TfLiteNode *) {
  puts("library");
  return kTfLiteOk;
}

void Run(TfLiteNode node) {
  TfLiteContext context;
  const TfLiteStatus status = kws::RegisterAdd().invoke(&context, &node);
  printf("%d", static_cast<int>(status));
  for (int i = 0; i < 3; ++i) {
    printf(" %d", static_cast<int>(node.output.data.i32[i]));
  }
  puts("");
}

}  // namespace

namespace tflite {

TFLMRegistration Register_ADD() { return {LibraryInvoke}; }

int ElementCount(const TfLiteIntArray &dims) {
  int count = 1;
  for (int axis = 0; axis < dims.size; ++axis) {
    count *= dims.data[axis];
  }
  return count;
}

namespace micro {

const TfLiteEvalTensor *GetEvalInput(const TfLiteContext *, const TfLiteNode *node, int index) {
  return &node->inputs[index];
}

TfLiteEvalTensor *GetEvalOutput(const TfLiteContext *, const TfLiteNode *node, int) {
  return const_cast<TfLiteEvalTensor *>(&node->output);
}

}  // namespace micro
}  // namespace tflite

int main() {
  TfLiteIntArray three = {4, {1, 1, 3, 1}};
  TfLiteIntArray one = {4, {1, 1, 1, 1}};
  int32_t numbers[3] = {-128, 0, 127};
  int32_t offset[3] = {128, 0, 0};
  int32_t sums[3] = {7, 7, 7};
  const TfLiteEvalTensor many = {{numbers}, &three, kTfLiteInt32};
  const TfLiteEvalTensor single = {{offset}, &one, kTfLiteInt32};
  const TfLiteEvalTensor output = {{sums}, &three, kTfLiteInt32};
  const TfLiteEvalTensor int8_output = {{sums}, &three, kTfLiteInt8};
  Run({{many, many}, output});
  Run({{single, many}, output});
  Run({{many, single}, int8_output});
  Run({{many, single}, output});
  return 0;
}
