/* Test program, on standard input: a KwsDetectorParams, then results: time_ms (uint32_t) and kLabelCount posteriors
 * (uint16_t) each -> a line an event: label, time, score. With an argument: logits -> posteriors, as bytes. */

#include <stdio.h>

#include "detector.h"
#include "posteriors.h"

static void print_posteriors(void) {
  KwsInteger logits[kLabelCount];
  while (fread(logits, sizeof(logits), 1, stdin) == 1) {
    uint16_t posteriors[kLabelCount];
    kws_posteriors(logits, posteriors);
    fwrite(posteriors, sizeof(posteriors), 1, stdout);
  }
}

static int print_events(void) {
  static KwsDetectorState state;
  KwsDetectorParams params;
  uint32_t time_ms;
  if (fread(&params, sizeof(params), 1, stdin) != 1) {
    return 2;
  }
  if (params.smoothing_ms == 0) {
    params = kDetectorParams;
  }
  kws_detector_reset(&state);
  while (fread(&time_ms, sizeof(time_ms), 1, stdin) == 1) {
    uint16_t posteriors[kLabelCount];
    KwsEvent event;
    if (fread(posteriors, sizeof(posteriors), 1, stdin) != 1) {
      return 3;
    }
    if (kws_detector_push(&params, &state, time_ms, posteriors, &event)) {
      printf("%d %u %u\n", (int)event.label, (unsigned)event.time_ms, (unsigned)event.score);
    }
  }
  return 0;
}

int main(int argc, char **argv) {
  (void)argv;
  if (argc > 1) {
    print_posteriors();
    return 0;
  }
  return print_events();
}
