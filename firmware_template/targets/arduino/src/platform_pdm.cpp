// The microphone of the PDM library, as on the Nano 33 BLE Sense; text goes to Serial.

#include <Arduino.h>
#include <PDM.h>

#include "feature_params.h"
#include "microphone.h"
#include "platform.h"

namespace {

constexpr int kChannels = 1;
constexpr unsigned long kBaud = 115200;
// The PDM library stops the microphone if a callback leaves something in its buffer, which has so many by default.
constexpr size_t kBlockSamples = 256;

// In an interrupt.
void ReadMicrophone() {
  static int16_t block[kBlockSamples];
  for (int bytes = PDM.available(); bytes > 0;) {
    const int wanted = bytes < static_cast<int>(sizeof(block)) ? bytes : static_cast<int>(sizeof(block));
    const int got = PDM.read(block, static_cast<size_t>(wanted));
    if (got <= 0) {
      return;
    }
    audio_ring_push(&microphone_ring, block, got / static_cast<int>(sizeof(block[0])));
    bytes -= got;
  }
}

}  // namespace

void platform_write(const char *text) { Serial.print(text); }

void platform_report_error(const char *message) {
  Serial.print("kws: ");
  Serial.println(message);
}

uint32_t platform_time_us(void) { return static_cast<uint32_t>(micros()); }

void microphone_wait(void) { delay(1); }

int platform_open(int argc, char **argv) {
  (void)argc;
  (void)argv;
  Serial.begin(kBaud);
  PDM.onReceive(ReadMicrophone);
  if (PDM.begin(kChannels, kSampleRateHz) == 0) {
    platform_report_error("the microphone does not start; the PDM library takes kSampleRateHz 16000");
    return 1;
  }
  return 0;
}
