// Prints each keyword that the microphone hears: seconds, label, probability.

#include <Arduino.h>
#include <kws_firmware.h>

void setup() {}

void loop() {
  // Returns after a fault only, which it has printed.
  kws_main(0, nullptr);
  delay(5000);
}
