// Audio in -> log-mel frames -> integer window -> model -> posteriors -> keyword events out.

// A package for a board says there what its SDK demands.
#if __has_include("board_config.h")
#include "board_config.h"
#endif

#include <stdint.h>

#include "detector.h"
#include "feature_params.h"
#include "frontend.h"
#include "inference.h"
#include "platform.h"
#include "posteriors.h"
#include "window.h"

static_assert(static_cast<int>(kInputElements) == static_cast<int>(kMelBands) * static_cast<int>(kFrames),
              "the input is one window of features");

namespace {

KwsFrontendState frontend;
KwsFrontendScratch scratch;
KwsWindow window;
KwsDetectorState detector;
// Samples that frames have begun with, and frames until the next inference.
uint64_t hop_samples_heard = 0;
int32_t frames_to_go = kFrames;

uint32_t StreamMs() {
  const uint64_t end = hop_samples_heard - kHopSamples + kWindowSamples;
  return static_cast<uint32_t>(end * 1000 / kSampleRateHz);
}

KwsStatus Classify() {
  kws_window_write(&window, kws_inference_input());
  const KwsStatus status = kws_inference_run();
  if (status != kKwsOk) {
    return status;
  }
  uint16_t posteriors[kLabelCount];
  kws_posteriors(kws_inference_output(), posteriors);
  KwsEvent event;
  if (kws_detector_push(&kDetectorParams, &detector, StreamMs(), posteriors, &event)) {
    platform_event(&event);
  }
  return kKwsOk;
}

KwsStatus Hear(const int16_t *samples, int32_t count) {
  for (int32_t taken = 0; taken < count;) {
    KwsInteger frame[kMelBands];
    taken += kws_frontend_push(&frontend, samples + taken, count - taken);
    if (!kws_frontend_pop(&frontend, &scratch, frame)) {
      continue;
    }
    kws_window_push(&window, frame);
    hop_samples_heard += kHopSamples;
    if (--frames_to_go == 0) {
      frames_to_go = kInferenceStrideFrames;
      const KwsStatus status = Classify();
      if (status != kKwsOk) {
        return status;
      }
    }
  }
  return kKwsOk;
}

void ReportFault(KwsStatus status) {
  platform_report_error(kws_status_name(status));
  platform_report_error(kws_status_text(status));
}

}  // namespace

int main(int argc, char **argv) {
  if (platform_open(argc, argv) != 0) {
    return 1;
  }
  kws_frontend_reset(&frontend);
  kws_window_reset(&window);
  kws_detector_reset(&detector);
  KwsStatus status = kws_inference_init();
  int32_t count = 1;
  while (status == kKwsOk && count > 0) {
    int16_t samples[kHopSamples];
    count = platform_read_audio(samples, kHopSamples);
    status = Hear(samples, count);
  }
  if (status != kKwsOk) {
    ReportFault(status);
    return 1;
  }
  return count < 0 ? 1 : 0;
}
