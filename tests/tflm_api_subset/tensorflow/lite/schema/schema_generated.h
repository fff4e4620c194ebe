#ifndef KWS_TESTS_TFLM_API_SUBSET_SCHEMA_H_
#define KWS_TESTS_TFLM_API_SUBSET_SCHEMA_H_

#include <stdint.h>

namespace tflite {

struct Model {
  uint32_t version() const;
};

const Model *GetModel(const void *data);

}  // namespace tflite

#endif
