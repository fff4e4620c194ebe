// Audio in -> log-mel frames -> integer window -> model -> posteriors out.

#include <stdint.h>

#include "feature_params.h"
#include "frontend.h"
#include "inference.h"
#include "platform.h"
#include "window.h"

static_assert(static_cast<int>(kInputElements) == static_cast<int>(kMelBands) * static_cast<int>(kFrames),
              "the input is one window of features");

namespace {

// The model looks at its window every so often, so that consecutive windows overlap.
constexpr uint32_t kInferenceStrideMs = 100;
constexpr uint32_t kInferenceStrideFrames = kInferenceStrideMs * kSampleRateHz / 1000 / kHopSamples;
static_assert(kInferenceStrideFrames > 0, "the stride is at least one hop");

KwsFrontendState frontend;
KwsFrontendScratch scratch;
KwsWindow window;
uint32_t frame_count = 0;

bool InferenceIsDue() { return frame_count >= kFrames && (frame_count - kFrames) % kInferenceStrideFrames == 0; }

uint32_t StreamMs() {
  const uint64_t samples = (uint64_t{frame_count} - 1) * kHopSamples + kWindowSamples;
  return static_cast<uint32_t>(samples * 1000 / kSampleRateHz);
}

KwsInferenceStatus Classify() {
  float posteriors[kLabelCount];
  const uint32_t start_us = platform_time_us();
  kws_window_write(&window, kws_inference_input());
  const KwsInferenceStatus status = kws_inference_run(posteriors);
  if (status == kKwsInferenceOk) {
    const PlatformEvent event = {StreamMs(), platform_time_us() - start_us, posteriors};
    platform_emit(&event);
  }
  return status;
}

KwsInferenceStatus Hear(const int16_t *samples, int32_t count) {
  for (int32_t taken = 0; taken < count;) {
    KwsInteger frame[kMelBands];
    taken += kws_frontend_push(&frontend, samples + taken, count - taken);
    if (kws_frontend_pop(&frontend, &scratch, frame)) {
      kws_window_push(&window, frame);
      frame_count += 1;
      const KwsInferenceStatus status = InferenceIsDue() ? Classify() : kKwsInferenceOk;
      if (status != kKwsInferenceOk) {
        return status;
      }
    }
  }
  return kKwsInferenceOk;
}

}  // namespace

int main(int argc, char **argv) {
  if (platform_open(argc, argv) != 0) {
    return 1;
  }
  kws_frontend_reset(&frontend);
  kws_window_reset(&window);
  KwsInferenceStatus status = kws_inference_init();
  int32_t count = 1;
  while (status == kKwsInferenceOk && count > 0) {
    int16_t samples[kHopSamples];
    count = platform_read_audio(samples, kHopSamples);
    status = Hear(samples, count);
  }
  if (status != kKwsInferenceOk) {
    platform_report_error(kws_inference_status_text(status));
    return 1;
  }
  return count < 0 ? 1 : 0;
}
