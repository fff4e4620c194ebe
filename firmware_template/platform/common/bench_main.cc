// Reads some audio and prints what the parts take, a line each: microseconds of the fastest and the slowest frame, and bytes
// of RAM. Under an emulator that counts an instruction as 1.024 us the microseconds are instructions.

#include <stdint.h>

#include "detector.h"
#include "frontend.h"
#include "platform.h"
#include "text.h"
#include "window.h"
#ifdef KWS_WITH_INFERENCE
#include "inference.h"
#include "posteriors.h"
#endif
#ifdef KWS_ON_CORTEX_M
#include "board.h"
#endif

namespace {

KwsFrontendState state;
KwsFrontendScratch scratch;
KwsWindow window;
KwsDetectorState detector;
// Not on the stack, of which the use is measured.
int16_t samples[kHopSamples];

void Print(const char *name, uint32_t value) {
  char text[kTextNumberBytes];
  platform_write(name);
  platform_write(" ");
  platform_write(text_of_number(text, static_cast<int32_t>(value), 0));
  platform_write("\n");
}

void PrintMemory() {
  Print("frontend_state_bytes", sizeof(state));
  Print("frontend_scratch_bytes", sizeof(scratch));
  Print("window_bytes", sizeof(window));
  Print("detector_bytes", sizeof(detector));
#ifdef KWS_ON_CORTEX_M
  Print("stack_bytes", board_stack_used_bytes());
#endif
}

int BenchFrames() {
  uint32_t frames = 0, fastest = UINT32_MAX, slowest = 0;
  int32_t count;
  while ((count = platform_read_audio(samples, kHopSamples)) > 0) {
    for (int32_t taken = 0; taken < count;) {
      KwsInteger frame[kMelBands];
      const uint32_t start_us = platform_time_us();
      taken += kws_frontend_push(&state, samples + taken, count - taken);
      if (kws_frontend_pop(&state, &scratch, frame)) {
        const uint32_t took_us = platform_time_us() - start_us;
        fastest = took_us < fastest ? took_us : fastest;
        slowest = took_us > slowest ? took_us : slowest;
        frames += 1;
        kws_window_push(&window, frame);
      }
    }
  }
  Print("frames", frames);
  Print("frame_fastest_us", fastest);
  Print("frame_slowest_us", slowest);
  return count < 0 ? 1 : 0;
}

#ifdef KWS_WITH_INFERENCE
int BenchInference() {
  KwsStatus status = kws_inference_init();
  uint32_t start_us = platform_time_us();
  if (status == kKwsOk) {
    kws_window_write(&window, kws_inference_input());
    Print("window_write_us", platform_time_us() - start_us);
    start_us = platform_time_us();
    status = kws_inference_run();
  }
  if (status != kKwsOk) {
    platform_report_error(kws_status_name(status));
    return 1;
  }
  Print("inference_us", platform_time_us() - start_us);
  start_us = platform_time_us();
  uint16_t posteriors[kLabelCount];
  KwsEvent event;
  kws_posteriors(kws_inference_output(), posteriors);
  kws_detector_push(&kDetectorParams, &detector, 0, posteriors, &event);
  Print("detector_us", platform_time_us() - start_us);
  Print("arena_bytes", kArenaBytes);
  Print("arena_used_bytes", static_cast<uint32_t>(kws_inference_arena_used_bytes()));
  return 0;
}
#else
int BenchInference() { return 0; }
#endif

}  // namespace

int main(int argc, char **argv) {
  if (platform_open(argc, argv) != 0) {
    return 1;
  }
  kws_frontend_reset(&state);
  kws_window_reset(&window);
  kws_detector_reset(&detector);
  if (BenchFrames() != 0 || BenchInference() != 0) {
    return 1;
  }
  PrintMemory();
  return 0;
}
