/* Posteriors, one set an inference -> keyword events: smoothed, held against thresholds, debounced.
 *
 * kws/detector.py does the same in Python; both count in integers and give equal events. C99, no heap, no globals:
 * the caller owns the state. */

#ifndef KWS_SRC_DETECTOR_H_
#define KWS_SRC_DETECTOR_H_

#include <stdint.h>

#include "detector_params.h"
#include "labels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct KwsDetectorState {
  /* Time of the last event, while it is recent. */
  uint32_t event_ms;
  int32_t is_refractory;
  /* Ring of the results within the smoothing time. */
  int32_t count;
  int32_t oldest;
  uint32_t times_ms[kDetectorCapacity];
  uint16_t posteriors[kDetectorCapacity][kLabelCount];
  uint32_t sums[kLabelCount];
} KwsDetectorState;

typedef struct KwsEvent {
  /* Index into kLabels. */
  int32_t label;
  /* Time of the inference that decided. */
  uint32_t time_ms;
  /* Smoothed posterior, in 1 / kPosteriorOne. */
  uint16_t score;
} KwsEvent;

/* Forgets all results and events. Call it before anything else. */
void kws_detector_reset(KwsDetectorState *state);

/* Takes the kLabelCount posteriors of the inference at `time_ms`, which may wrap around; results from the future count
 * as old ones. `params` is &kDetectorParams. Returns 1 and fills `event` if they make one, else 0. */
int32_t kws_detector_push(const KwsDetectorParams *params, KwsDetectorState *state, uint32_t time_ms,
                          const uint16_t *posteriors, KwsEvent *event);

#ifdef __cplusplus
}
#endif

#endif /* KWS_SRC_DETECTOR_H_ */
