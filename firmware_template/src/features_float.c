#ifndef KWS_FIXED_POINT

#include <math.h>
#include <string.h>

#include "feature_tables.h"
#include "window_features.h"

/* Full scale of 16-bit samples. */
static const float kSampleScale = 1.0f / 32768.0f;

static void window_samples(const int16_t *samples, float *spectrum) {
  for (int32_t i = 0; i < kWindowSamples; ++i) {
    spectrum[i] = (float)samples[i] * kSampleScale * kWindow[i];
  }
  memset(spectrum + kWindowSamples, 0, (kFftSize - kWindowSamples) * sizeof(float));
}

/* In place: the packed bins of kws_real_fft -> the power of bins 0 .. kFftSize / 2. */
static const float *power_spectrum(float *bins) {
  const float highest = bins[1] * bins[1];
  bins[0] = bins[0] * bins[0];
  for (int32_t k = 1; k < kComplexSize; ++k) {
    const float real = bins[2 * k];
    const float imag = bins[2 * k + 1];
    bins[k] = real * real + imag * imag;
  }
  bins[kComplexSize] = highest;
  return bins;
}

static void log_mel(const float *power, float *bands) {
  const float *weight = kMelWeights;
  for (int32_t band = 0; band < kMelBands; ++band) {
    const float *bin = &power[kMelFirstBin[band]];
    float energy = 0.0f;
    for (int32_t i = 0; i < kMelBinCount[band]; ++i) {
      energy += *bin++ * *weight++;
    }
    bands[band] = logf(energy + kLogOffset);
  }
}

/* Rounds half to even, as numpy.rint and the quantizer of kws do. */
static KwsInteger quantize(float value) {
  const float lowest = (float)(kIntegerMin - kInputZeroPoint);
  const float highest = (float)(kIntegerMax - kInputZeroPoint);
  const float steps = value / kInputScale;
  const float clipped = steps < lowest ? lowest : (steps > highest ? highest : steps);
  return (KwsInteger)(lrintf(clipped) + kInputZeroPoint);
}

void kws_features_of_window(const int16_t *samples, KwsFrontendScratch *scratch, KwsInteger *frame) {
  window_samples(samples, scratch->spectrum);
  log_mel(power_spectrum(kws_real_fft(scratch)), scratch->log_mel);
  for (int32_t band = 0; band < kMelBands; ++band) {
    frame[band] = quantize(scratch->log_mel[band]);
  }
}

float kws_frontend_log_mel(const KwsFrontendScratch *scratch, int32_t band) { return scratch->log_mel[band]; }

#else
typedef int KwsFloatFeaturesAreNotBuilt;
#endif
