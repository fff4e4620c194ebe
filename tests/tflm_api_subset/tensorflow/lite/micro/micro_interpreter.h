#ifndef KWS_TESTS_TFLM_API_SUBSET_INTERPRETER_H_
#define KWS_TESTS_TFLM_API_SUBSET_INTERPRETER_H_

#include <stddef.h>
#include <stdint.h>

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

#define TFLITE_SCHEMA_VERSION (3)

enum TfLiteType { kTfLiteInt32 = 2, kTfLiteInt16 = 7, kTfLiteInt8 = 9 };

struct TfLiteIntArray {
  int size;
  int data[4];
};

struct TfLiteTensor {
  TfLiteType type;
  TfLiteIntArray *dims;
  union {
    void *data;
  } data;
};

namespace tflite {

class MicroInterpreter {
 public:
  MicroInterpreter(const Model *model, const MicroOpResolver &resolver, uint8_t *arena, size_t arena_bytes);
  ~MicroInterpreter();
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  TfLiteTensor *input(size_t index);
  TfLiteTensor *output(size_t index);
  size_t arena_used_bytes() const;
};

}  // namespace tflite

#endif
