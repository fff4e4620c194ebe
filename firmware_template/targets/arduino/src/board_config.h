/* What inference.cpp and main.cpp need to know of the library Chirale_TensorFLowLite: it is built without
 * TF_LITE_STATIC_MEMORY, and its kernels for Arm are those of CMSIS-NN. Its header makes the IDE find it. */

#ifndef KWS_BOARD_CONFIG_H_
#define KWS_BOARD_CONFIG_H_

#include <Chirale_TensorFlowLite.h>

#include "add_numbers.h"
#include "board_params.h"
#include "kws_firmware.h"

#define main kws_main
/* Other versions of TensorFlow Lite Micro round in other places. */
#define KWS_SELF_TEST_STEPS 2
#define CMSIS_NN
#define KWS_TFLM_WITHOUT_STATIC_MEMORY
#define KWS_ARENA_BYTES KWS_BOARD_ARENA_BYTES

#endif /* KWS_BOARD_CONFIG_H_ */
