/* Reads the results of inferences from a WAV file that holds them instead of samples, and prints the events; to try
 * detector parameters on a board. A result is two values, the low and the high half of its time in ms, then kLabelCount
 * posteriors. */

#include "detector.h"
#include "platform.h"

enum { kValues = 2 + kLabelCount };

static KwsDetectorState state;

int main(int argc, char **argv) {
  if (platform_open(argc, argv) != 0) {
    return 1;
  }
  kws_detector_reset(&state);
  int16_t values[kValues];
  int32_t count;
  while ((count = platform_read_audio(values, kValues)) == kValues) {
    const uint32_t time_ms = (uint16_t)values[0] | ((uint32_t)(uint16_t)values[1] << 16);
    uint16_t posteriors[kLabelCount];
    for (int32_t i = 0; i < kLabelCount; ++i) {
      posteriors[i] = (uint16_t)values[2 + i];
    }
    KwsEvent event;
    if (kws_detector_push(&kDetectorParams, &state, time_ms, posteriors, &event)) {
      platform_event(&event);
    }
  }
  return count < 0 ? 1 : 0;
}
