#include "microphone.h"

#include "feature_params.h"
#include "platform.h"

AudioRing microphone_ring;

static uint32_t lost_reported;
static int32_t samples_to_report;

static void report_loss(int32_t count) {
  const uint32_t lost = audio_ring_lost(&microphone_ring);
  samples_to_report -= samples_to_report > 0 ? count : 0;
  if (lost != lost_reported && samples_to_report <= 0) {
    lost_reported = lost;
    samples_to_report = kMicrophoneReportSeconds * kSampleRateHz;
    platform_report_error("samples were lost: an inference takes longer than its stride; raise the detector's stride_ms");
  }
}

int32_t platform_read_audio(int16_t *samples, int32_t count) {
  uint32_t last_us = platform_time_us();
  int32_t done = 0;
  for (;;) {
    const int32_t got = audio_ring_pop(&microphone_ring, samples + done, count - done);
    done += got;
    if (done >= count) {
      report_loss(count);
      return count;
    }
    const uint32_t now_us = platform_time_us();
    if (got > 0) {
      last_us = now_us;
    } else if (now_us - last_us > kMicrophoneSilentUs) {
      platform_report_error("the microphone gives no samples");
      return -1;
    }
    microphone_wait();
  }
}
