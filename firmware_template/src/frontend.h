/* Log-mel front end: 16-bit samples in, integer columns of the model's input out.
 *
 * Computes what kws.features.LogMel computes: frame i is samples[i * kHopSamples] onwards, kWindowSamples of
 * them, scaled to -1..1, times a periodic Hann window, zero-padded to kFftSize; power spectrum; mel weights;
 * natural logarithm of (energy + kLogOffset). C99, no heap, no global state: the caller owns KwsFrontend. */

#ifndef KWS_SRC_FRONTEND_H_
#define KWS_SRC_FRONTEND_H_

#include <stdint.h>

#include "feature_params.h"
#include "model_params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Everything that outlives a call, and the work buffers. Read frame_ready, frame_count and log_mel; leave the
 * rest to the functions below. */
typedef struct KwsFrontend {
  /* 1 if the last call of kws_frontend_push completed a frame. */
  int32_t frame_ready;
  /* Frames completed since the reset. */
  uint32_t frame_count;
  /* The newest frame: natural logarithm of mel energy, before quantization. */
  float log_mel[kMelBands];

  int32_t sample_count;
  int32_t next_column;
  int16_t samples[kWindowSamples];
  float spectrum[kFftSize];
  float power[kFftBins];
  KwsInteger columns[kFrames][kMelBands];
} KwsFrontend;

/* Forgets all samples and frames; the window then reads as digital silence. Call it before anything else. */
void kws_frontend_reset(KwsFrontend *frontend);

/* Takes up to `count` samples, stopping where a frame is complete. Returns how many it took: call it again with
 * the rest until none is left. */
int32_t kws_frontend_push(KwsFrontend *frontend, const int16_t *samples, int32_t count);

/* Writes the newest kFrames frames, oldest first, as the model wants them: mel band b of frame t is
 * input[b * kFrames + t]. `input` has kInputElements values. */
void kws_frontend_write_input(const KwsFrontend *frontend, KwsInteger *input);

/* The newest frame in the model's integers: kMelBands values. */
const KwsInteger *kws_frontend_newest_column(const KwsFrontend *frontend);

#ifdef __cplusplus
}
#endif

#endif /* KWS_SRC_FRONTEND_H_ */
