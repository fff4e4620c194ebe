#ifndef KWS_TESTS_ARDUINO_H_
#define KWS_TESTS_ARDUINO_H_

#include <stddef.h>
#include <stdint.h>

class KwsTestsSerial {
 public:
  void begin(unsigned long baud);
  size_t print(const char *text);
  size_t println(const char *text);
};
extern KwsTestsSerial Serial;

void setup();
void loop();

extern "C" {
unsigned long micros(void);
void delay(unsigned long ms);
}

#endif
