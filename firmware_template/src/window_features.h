/* One window of samples -> one frame of features. features_float.c and features_fixed.c implement it; KWS_FIXED_POINT
 * chooses. */

#ifndef KWS_SRC_WINDOW_FEATURES_H_
#define KWS_SRC_WINDOW_FEATURES_H_

#include "frontend.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  /* The FFT of kFftSize real values is one of kFftSize / 2 complex values and a step that takes them apart. */
  kComplexSize = kFftSize / 2
};

/* `samples`: kWindowSamples; `frame`: kMelBands. Leaves the frame before quantization in scratch->log_mel. */
void kws_features_of_window(const int16_t *samples, KwsFrontendScratch *scratch, KwsInteger *frame);

#ifndef KWS_FIXED_POINT
/* Real FFT of scratch->spectrum, kFftSize values in their natural order. Returns where the result lies, in scratch:
 * real parts of bin 0 and of bin kFftSize / 2, then real and imaginary part of bin 1, of bin 2, and so on. */
float *kws_real_fft(KwsFrontendScratch *scratch);
#endif

/* The bit-reversed counterpart of the next index: `reversed` belongs to i, the result to i + 1 (below kComplexSize). */
static inline int32_t kws_next_reversed(int32_t reversed) {
  int32_t bit = kComplexSize / 2;
  for (; reversed & bit; bit /= 2) {
    reversed -= bit;
  }
  return reversed + bit;
}

#ifdef __cplusplus
}
#endif

#endif /* KWS_SRC_WINDOW_FEATURES_H_ */
