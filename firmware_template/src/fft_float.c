#ifndef KWS_FIXED_POINT

#include "window_features.h"

#ifdef KWS_FFT_CMSIS_DSP

#include "dsp/transform_functions.h"

float *kws_real_fft(KwsFrontendScratch *scratch) {
  arm_rfft_fast_instance_f32 instance;
  KWS_CMSIS_RFFT_INIT(&instance);
  arm_rfft_fast_f32(&instance, scratch->spectrum, scratch->transform, 0);
  return scratch->transform;
}

#else

#include "feature_tables.h"

static void swap_pairs(float *a, float *b) {
  const float real = a[0];
  const float imag = a[1];
  a[0] = b[0];
  a[1] = b[1];
  b[0] = real;
  b[1] = imag;
}

static void bit_reverse(float *values) {
  int32_t reversed = 0;
  for (int32_t i = 1; i < kComplexSize; ++i) {
    reversed = kws_next_reversed(reversed);
    if (i < reversed) {
      swap_pairs(&values[2 * i], &values[2 * reversed]);
    }
  }
}

/* Stages one and two at once, on four complex values side by side: their twiddle factors are 1 and -i. */
static void first_stages(float *v) {
  const float sum_real = v[0] + v[2], sum_imag = v[1] + v[3];
  const float difference_real = v[0] - v[2], difference_imag = v[1] - v[3];
  const float other_sum_real = v[4] + v[6], other_sum_imag = v[5] + v[7];
  const float other_difference_real = v[4] - v[6], other_difference_imag = v[5] - v[7];
  v[0] = sum_real + other_sum_real;
  v[1] = sum_imag + other_sum_imag;
  v[2] = difference_real + other_difference_imag;
  v[3] = difference_imag - other_difference_real;
  v[4] = sum_real - other_sum_real;
  v[5] = sum_imag - other_sum_imag;
  v[6] = difference_real - other_difference_imag;
  v[7] = difference_imag + other_difference_real;
}

/* One butterfly of the complex values at `a` and `b`. */
static void butterfly(float *a, float *b, float cosine, float sine) {
  const float real = b[0] * cosine + b[1] * sine;
  const float imag = b[1] * cosine - b[0] * sine;
  b[0] = a[0] - real;
  b[1] = a[1] - imag;
  a[0] += real;
  a[1] += imag;
}

/* Radix-2 decimation-in-time FFT of kComplexSize complex values, in place. */
static void complex_fft(float *values) {
  bit_reverse(values);
  int32_t size = 2;
  if (kComplexSize >= 4) {
    for (int32_t start = 0; start < kComplexSize; start += 4) {
      first_stages(&values[2 * start]);
    }
    size = 8;
  }
  for (; size <= kComplexSize; size *= 2) {
    const int32_t half = size / 2;
    const int32_t stride = kFftSize / size;
    for (int32_t k = 0; k < half; ++k) {
      const float cosine = kTwiddleCos[k * stride];
      const float sine = kTwiddleSin[k * stride];
      for (int32_t i = k; i < kComplexSize; i += size) {
        butterfly(&values[2 * i], &values[2 * (i + half)], cosine, sine);
      }
    }
  }
}

/* In place: the transform of even samples + i * odd samples -> bins 1 .. kFftSize / 2 - 1 of all, bins 0 and
 * kFftSize / 2 packed in front. Bins k and kComplexSize - k need each other. */
static void take_apart(float *z) {
  const float first = z[0];
  z[0] = first + z[1];
  z[1] = first - z[1];
  for (int32_t k = 1; k <= kComplexSize / 2; ++k) {
    float *a = &z[2 * k];
    float *b = &z[2 * (kComplexSize - k)];
    const float even_real = 0.5f * (a[0] + b[0]);
    const float even_imag = 0.5f * (a[1] - b[1]);
    const float odd_real = 0.5f * (a[1] + b[1]);
    const float odd_imag = 0.5f * (b[0] - a[0]);
    const float real = odd_real * kTwiddleCos[k] + odd_imag * kTwiddleSin[k];
    const float imag = odd_imag * kTwiddleCos[k] - odd_real * kTwiddleSin[k];
    b[0] = even_real - real;
    b[1] = imag - even_imag;
    a[0] = even_real + real;
    a[1] = even_imag + imag;
  }
}

float *kws_real_fft(KwsFrontendScratch *scratch) {
  complex_fft(scratch->spectrum);
  take_apart(scratch->spectrum);
  return scratch->spectrum;
}

#endif

#else
typedef int KwsFloatFftIsNotBuilt;
#endif
