#include "frontend.h"

#include <string.h>

#include "window_features.h"

size_t kws_frontend_state_bytes(void) { return sizeof(KwsFrontendState); }

size_t kws_frontend_scratch_bytes(void) { return sizeof(KwsFrontendScratch); }

void kws_frontend_reset(KwsFrontendState *state) { memset(state, 0, sizeof(*state)); }

int32_t kws_frontend_push(KwsFrontendState *state, const int16_t *samples, int32_t count) {
  const int32_t wanted = kWindowSamples - state->sample_count;
  const int32_t taken = count < wanted ? count : wanted;
  if (taken <= 0) {
    return 0;
  }
  memcpy(state->samples + state->sample_count, samples, (size_t)taken * sizeof(int16_t));
  state->sample_count += taken;
  return taken;
}

int32_t kws_frontend_pop(KwsFrontendState *state, KwsFrontendScratch *scratch, KwsInteger *frame) {
  if (state->sample_count < kWindowSamples) {
    return 0;
  }
  kws_features_of_window(state->samples, scratch, frame);
  state->sample_count = kWindowSamples - kHopSamples;
  memmove(state->samples, state->samples + kHopSamples, (size_t)state->sample_count * sizeof(int16_t));
  return 1;
}
