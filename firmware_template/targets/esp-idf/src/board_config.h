/* What inference.cc and main.cc need to know of ESP-IDF: espressif/esp-tflite-micro hands on TF_LITE_STATIC_MEMORY. */

#ifndef KWS_BOARD_CONFIG_H_
#define KWS_BOARD_CONFIG_H_

#include "board_params.h"
#include "kws_firmware.h"
#include "sdkconfig.h"

#define main kws_main
/* Other versions of TensorFlow Lite Micro round in other places. */
#define KWS_SELF_TEST_STEPS 2

#if CONFIG_KWS_ARENA_BYTES > 0
#define KWS_ARENA_BYTES CONFIG_KWS_ARENA_BYTES
#else
#define KWS_ARENA_BYTES KWS_BOARD_ARENA_BYTES
#endif

#endif /* KWS_BOARD_CONFIG_H_ */
