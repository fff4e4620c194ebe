#include "frontend.h"

#include <math.h>
#include <string.h>

#include "feature_tables.h"

/* The FFT of kFftSize real values is one of kFftSize / 2 complex values and a step that takes them apart. */
enum { kComplexSize = kFftSize / 2 };

/* Full scale of 16-bit samples. */
static const float kSampleScale = 1.0f / 32768.0f;

/* Rounds half to even, as numpy.rint and the quantizer of kws do. */
static KwsInteger quantize(float value) {
  const float lowest = (float)(kIntegerMin - kInputZeroPoint);
  const float highest = (float)(kIntegerMax - kInputZeroPoint);
  const float steps = value / kInputScale;
  const float clipped = steps < lowest ? lowest : (steps > highest ? highest : steps);
  return (KwsInteger)(lrintf(clipped) + kInputZeroPoint);
}

/* Windowed samples, zero-padded. Sample 2n and 2n + 1 are real and imaginary part of complex value n. */
static void window_samples(const int16_t *samples, float *spectrum) {
  for (int32_t i = 0; i < kWindowSamples; ++i) {
    spectrum[i] = (float)samples[i] * kSampleScale * kWindow[i];
  }
  memset(spectrum + kWindowSamples, 0, (kFftSize - kWindowSamples) * sizeof(float));
}

static void swap(float *a, float *b) {
  const float kept = *a;
  *a = *b;
  *b = kept;
}

static void bit_reverse(float *values) {
  int32_t reversed = 0;
  for (int32_t i = 1; i < kComplexSize; ++i) {
    int32_t bit = kComplexSize / 2;
    for (; reversed & bit; bit /= 2) {
      reversed -= bit;
    }
    reversed += bit;
    if (i < reversed) {
      swap(&values[2 * i], &values[2 * reversed]);
      swap(&values[2 * i + 1], &values[2 * reversed + 1]);
    }
  }
}

/* One butterfly of the values at `a` and `b`; the twiddle factor is that of table entry `twiddle`. */
static void butterfly(float *a, float *b, int32_t twiddle) {
  const float cosine = kTwiddleCos[twiddle];
  const float sine = kTwiddleSin[twiddle];
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
  for (int32_t size = 2; size <= kComplexSize; size *= 2) {
    const int32_t half = size / 2;
    const int32_t stride = kFftSize / size;
    for (int32_t start = 0; start < kComplexSize; start += size) {
      for (int32_t k = 0; k < half; ++k) {
        butterfly(&values[2 * (start + k)], &values[2 * (start + k + half)], k * stride);
      }
    }
  }
}

/* Power spectrum of the real signal whose even and odd samples `z` transformed as one complex signal. */
static void power_spectrum(const float *z, float *power) {
  const float sum = z[0] + z[1];
  const float difference = z[0] - z[1];
  power[0] = sum * sum;
  power[kComplexSize] = difference * difference;
  for (int32_t k = 1; k < kComplexSize; ++k) {
    const float *a = &z[2 * k];
    const float *b = &z[2 * (kComplexSize - k)];
    const float even_real = 0.5f * (a[0] + b[0]);
    const float even_imag = 0.5f * (a[1] - b[1]);
    const float odd_real = 0.5f * (a[1] + b[1]);
    const float odd_imag = 0.5f * (b[0] - a[0]);
    const float real = even_real + odd_real * kTwiddleCos[k] + odd_imag * kTwiddleSin[k];
    const float imag = even_imag + odd_imag * kTwiddleCos[k] - odd_real * kTwiddleSin[k];
    power[k] = real * real + imag * imag;
  }
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

static void complete_frame(KwsFrontend *frontend) {
  window_samples(frontend->samples, frontend->spectrum);
  complex_fft(frontend->spectrum);
  power_spectrum(frontend->spectrum, frontend->power);
  log_mel(frontend->power, frontend->log_mel);

  KwsInteger *column = frontend->columns[frontend->next_column];
  for (int32_t band = 0; band < kMelBands; ++band) {
    column[band] = quantize(frontend->log_mel[band]);
  }
  frontend->next_column = (frontend->next_column + 1) % kFrames;
  frontend->frame_count += 1;
  frontend->frame_ready = 1;

  frontend->sample_count = kWindowSamples - kHopSamples;
  memmove(frontend->samples, frontend->samples + kHopSamples, (size_t)frontend->sample_count * sizeof(int16_t));
}

void kws_frontend_reset(KwsFrontend *frontend) {
  memset(frontend, 0, sizeof(*frontend));
  const KwsInteger silence = quantize(logf(kLogOffset));
  for (int32_t frame = 0; frame < kFrames; ++frame) {
    for (int32_t band = 0; band < kMelBands; ++band) {
      frontend->columns[frame][band] = silence;
    }
  }
}

int32_t kws_frontend_push(KwsFrontend *frontend, const int16_t *samples, int32_t count) {
  const int32_t wanted = kWindowSamples - frontend->sample_count;
  const int32_t taken = count < wanted ? count : wanted;
  memcpy(frontend->samples + frontend->sample_count, samples, (size_t)taken * sizeof(int16_t));
  frontend->sample_count += taken;
  frontend->frame_ready = 0;
  if (taken == wanted) {
    complete_frame(frontend);
  }
  return taken;
}

void kws_frontend_write_input(const KwsFrontend *frontend, KwsInteger *input) {
  for (int32_t frame = 0; frame < kFrames; ++frame) {
    const KwsInteger *column = frontend->columns[(frontend->next_column + frame) % kFrames];
    for (int32_t band = 0; band < kMelBands; ++band) {
      input[band * kFrames + frame] = column[band];
    }
  }
}

const KwsInteger *kws_frontend_newest_column(const KwsFrontend *frontend) {
  return frontend->columns[(frontend->next_column + kFrames - 1) % kFrames];
}
