#ifndef KWS_TESTS_PDM_H_
#define KWS_TESTS_PDM_H_

#include <Arduino.h>

class PDMClass {
 public:
  int begin(int channels, int sample_rate_hz);
  int available();
  int read(void *buffer, size_t size);
  void onReceive(void (*callback)(void));
};
extern PDMClass PDM;

#endif
