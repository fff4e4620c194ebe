#ifndef KWS_TESTS_TFLM_API_SUBSET_ADD_H_
#define KWS_TESTS_TFLM_API_SUBSET_ADD_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

#endif
