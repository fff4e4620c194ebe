#include "detector.h"

#include <string.h>

#include "posteriors.h"

void kws_detector_reset(KwsDetectorState *state) { memset(state, 0, sizeof(*state)); }

static void drop_oldest(KwsDetectorState *state) {
  for (int32_t i = 0; i < kLabelCount; ++i) {
    state->sums[i] -= state->posteriors[state->oldest][i];
  }
  state->oldest = (state->oldest + 1) % kDetectorCapacity;
  state->count -= 1;
}

static void add(KwsDetectorState *state, uint32_t time_ms, const uint16_t *posteriors) {
  if (state->count == kDetectorCapacity) {
    drop_oldest(state);
  }
  const int32_t place = (state->oldest + state->count) % kDetectorCapacity;
  state->times_ms[place] = time_ms;
  for (int32_t i = 0; i < kLabelCount; ++i) {
    state->posteriors[place][i] = posteriors[i];
    state->sums[i] += posteriors[i];
  }
  state->count += 1;
}

static int32_t likeliest(const KwsDetectorState *state) {
  int32_t best = 0;
  for (int32_t i = 1; i < kLabelCount; ++i) {
    best = state->sums[i] > state->sums[best] ? i : best;
  }
  return best;
}

int32_t kws_detector_push(const KwsDetectorParams *params, KwsDetectorState *state, uint32_t time_ms,
                          const uint16_t *posteriors, KwsEvent *event) {
  if (state->is_refractory && time_ms - state->event_ms >= params->refractory_ms) {
    state->is_refractory = 0;
  }
  while (state->count > 0 && time_ms - state->times_ms[state->oldest] >= params->smoothing_ms) {
    drop_oldest(state);
  }
  add(state, time_ms, posteriors);
  const int32_t best = likeliest(state);
  const uint32_t threshold = params->thresholds[best];
  if (state->count < params->min_results || state->is_refractory || threshold > kPosteriorOne ||
      state->sums[best] < threshold * (uint32_t)state->count) {
    return 0;
  }
  state->event_ms = time_ms;
  state->is_refractory = 1;
  event->label = best;
  event->time_ms = time_ms;
  event->score = (uint16_t)(state->sums[best] / (uint32_t)state->count);
  return 1;
}
