/* Log-mel front end: 16-bit samples in, feature frames in the model's integers out.
 *
 * Computes what kws.features.LogMel computes: frame i is samples[i * kHopSamples] onwards, kWindowSamples of
 * them, scaled to -1..1, times a periodic Hann window, zero-padded to kFftSize; power spectrum; mel weights;
 * natural logarithm of (energy + kLogOffset); quantized. C99, no heap, no globals: the caller owns state and scratch.
 *
 * With KWS_FIXED_POINT all of it is done in int16_t and int32_t, for cores without a floating-point unit; else in
 * float. With KWS_FFT_CMSIS_DSP the float build takes the real FFT of CMSIS-DSP instead of its own.
 *
 *   while (count > 0) {
 *     int32_t taken = kws_frontend_push(&state, samples, count);
 *     samples += taken;
 *     count -= taken;
 *     while (kws_frontend_pop(&state, &scratch, frame)) use(frame);
 *   }
 */

#ifndef KWS_SRC_FRONTEND_H_
#define KWS_SRC_FRONTEND_H_

#include <stddef.h>
#include <stdint.h>

#include "feature_params.h"
#include "model_params.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifdef KWS_FIXED_POINT
/* Values of the spectrum, and log-mel as 65536 * binary logarithm of (energy + kLogOffset). */
typedef int32_t KwsFeatureValue;
#else
/* Values of the spectrum, and log-mel as natural logarithm of (energy + kLogOffset). */
typedef float KwsFeatureValue;
#endif

/* What lives from one call to the next: the samples of the frame to come. */
typedef struct KwsFrontendState {
  int32_t sample_count;
  int16_t samples[kWindowSamples];
} KwsFrontendState;

/* Work memory of kws_frontend_pop; anything may use it between calls. */
typedef struct KwsFrontendScratch {
  KwsFeatureValue spectrum[kFftSize];
#ifdef KWS_FFT_CMSIS_DSP
  KwsFeatureValue transform[kFftSize];
#endif
  /* The newest frame before quantization; stays until the next call. */
  KwsFeatureValue log_mel[kMelBands];
} KwsFrontendScratch;

/* Bytes of state and scratch, for who does not use sizeof; both need 4-byte alignment. */
size_t kws_frontend_state_bytes(void);
size_t kws_frontend_scratch_bytes(void);

/* Forgets all samples. Call it before anything else. */
void kws_frontend_reset(KwsFrontendState *state);

/* Takes up to `count` samples, 0 or more, stopping where a frame is complete. Returns how many it took: pop the
 * frame, then call it again with the rest. Takes none while a complete frame waits, or if `count` is negative. */
int32_t kws_frontend_push(KwsFrontendState *state, const int16_t *samples, int32_t count);

/* If a frame is complete, writes it to frame[0 .. kMelBands - 1] and returns 1; else returns 0. */
int32_t kws_frontend_pop(KwsFrontendState *state, KwsFrontendScratch *scratch, KwsInteger *frame);

/* Natural logarithm of (energy + kLogOffset) of one band of the newest frame, in either build; for tests. */
float kws_frontend_log_mel(const KwsFrontendScratch *scratch, int32_t band);

#ifdef __cplusplus
}
#endif

#endif /* KWS_SRC_FRONTEND_H_ */
