#ifdef KWS_FIXED_POINT

#include <string.h>

#include "feature_tables.h"
#include "window_features.h"

/* Every product is of int16_t with int16_t or of halves of an int32_t with int16_t: a Cortex-M0+ multiplies 32 by 32
 * bits to 32 and has no floating point. Right shifts of negative numbers are taken to be arithmetic, as on every
 * compiler for Arm; the golden vectors would tell. */

enum {
  /* Values enter the FFT below 2^kFftBits: a complex value's magnitude is then below 2^(kFftBits + 1/2), and each stage
   * halves what it adds. */
  kFftBits = 30,
  kMantissaBits = 16,
  /* A bin's power is mantissa * 4^(exponent - kExponentBias), packed as mantissa << 16 | exponent. */
  kExponentBias = 64,
  kLogTableBits = 6,
  kUint32Bits = 32
};

typedef struct KwsComplex {
  int32_t real;
  int32_t imag;
} KwsComplex;

/* The step of the model's input must be above 5e-5, and below 2^14, or quantize() overflows. */
typedef char KwsInputScaleFits[kStepsFraction >= 1 && kStepsFraction <= 28 ? 1 : -1];

static int32_t bits_of(uint32_t value) {
  int32_t bits = 0;
  for (int32_t step = 16; step > 0; step /= 2) {
    if (value >> step) {
      value >>= step;
      bits += step;
    }
  }
  return bits + (value != 0);
}

static uint32_t magnitude(int32_t value) { return value < 0 ? 0u - (uint32_t)value : (uint32_t)value; }

static int32_t shifted(int32_t value, int32_t left) {
  return left >= 0 ? (int32_t)((uint32_t)value << left) : value >> -left;
}

/* value * (factor / 2^15 + rest / 2^30), rounded down: three products of 16 by 16 bits. `rest` is what Q15 leaves out of
 * a twiddle factor; without it the quiet bands beside a loud tone would be off by several steps. */
static int32_t times(int32_t value, int32_t factor, int32_t rest) {
  const int32_t high = (value >> 16) * factor;
  const int32_t low = (int32_t)((uint32_t)value & 0xFFFFu) * factor;
  return high * 2 + (low >> 15) + (((value >> 16) * rest) >> 14);
}

/* value * (cos - i sin) of the angle number `index`. */
static KwsComplex rotated(KwsComplex value, int32_t index) {
  const int32_t cosine = kTwiddleCosQ15[index], cosine_rest = kTwiddleCosRest[index];
  const int32_t minus_sine = kTwiddleMinusSinQ15[index], minus_sine_rest = kTwiddleMinusSinRest[index];
  const KwsComplex product = {
      times(value.real, cosine, cosine_rest) - times(value.imag, minus_sine, minus_sine_rest),
      times(value.imag, cosine, cosine_rest) + times(value.real, minus_sine, minus_sine_rest),
  };
  return product;
}

/* Window the samples into bit-reversed pairs, as large as the FFT can take. Returns the power of two by which they are
 * larger than (sample in -1..1) * window * 2^31; 0 values and -1 if all samples are zero. */
static int32_t window_samples(const int16_t *samples, int32_t *values) {
  uint32_t peak = 0;
  memset(values, 0, kFftSize * sizeof(*values));
  int32_t reversed = 0;
  for (int32_t i = 0; i < kWindowSamples; ++i) {
    const int32_t value = samples[i] * (int32_t)kWindowQ16[i];
    peak |= magnitude(value);
    values[2 * reversed + (i & 1)] = value;
    if ((i & 1) && i + 1 < kFftSize) {
      reversed = kws_next_reversed(reversed);
    }
  }
  const int32_t left = kFftBits - bits_of(peak);
  if (peak == 0) {
    return -1;
  }
  for (int32_t i = 0; i < kFftSize; ++i) {
    values[i] = shifted(values[i], left);
  }
  return left;
}

/* Stages one and two at once, on four complex values side by side, with a quarter of their result. */
static void first_stages(int32_t *v) {
  for (int32_t i = 0; i < 8; ++i) {
    v[i] >>= 2;
  }
  const int32_t sum_real = v[0] + v[2], sum_imag = v[1] + v[3];
  const int32_t difference_real = v[0] - v[2], difference_imag = v[1] - v[3];
  const int32_t other_sum_real = v[4] + v[6], other_sum_imag = v[5] + v[7];
  const int32_t other_difference_real = v[4] - v[6], other_difference_imag = v[5] - v[7];
  v[0] = sum_real + other_sum_real;
  v[1] = sum_imag + other_sum_imag;
  v[2] = difference_real + other_difference_imag;
  v[3] = difference_imag - other_difference_real;
  v[4] = sum_real - other_sum_real;
  v[5] = sum_imag - other_sum_imag;
  v[6] = difference_real - other_difference_imag;
  v[7] = difference_imag + other_difference_real;
}

/* Half of a + b and of a - b, where `b` is halved already. */
static void butterfly(int32_t *a, int32_t *b, KwsComplex half) {
  const int32_t real = a[0] >> 1;
  const int32_t imag = a[1] >> 1;
  b[0] = real - half.real;
  b[1] = imag - half.imag;
  a[0] = real + half.real;
  a[1] = imag + half.imag;
}

static KwsComplex half_of(const int32_t *value) {
  const KwsComplex half = {value[0] >> 1, value[1] >> 1};
  return half;
}

/* FFT of kComplexSize complex values in bit-reversed order, in place, divided by kComplexSize. */
static void complex_fft(int32_t *values) {
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
    /* The twiddle factor of the first is 1, which has no int16_t in Q15. */
    for (int32_t i = 0; i < kComplexSize; i += size) {
      butterfly(&values[2 * i], &values[2 * (i + half)], half_of(&values[2 * (i + half)]));
    }
    for (int32_t k = 1; k < half; ++k) {
      for (int32_t i = k; i < kComplexSize; i += size) {
        int32_t *b = &values[2 * (i + half)];
        butterfly(&values[2 * i], b, rotated(half_of(b), k * stride));
      }
    }
  }
}

/* Mantissa and exponent of real^2 + imag^2, packed. */
static int32_t packed_power(int32_t real, int32_t imag) {
  const uint32_t larger = magnitude(real) | magnitude(imag);
  if (larger == 0) {
    return 0;
  }
  const int32_t right = bits_of(larger) - 15;
  const int32_t a = shifted(real, -right);
  const int32_t b = shifted(imag, -right);
  const uint32_t power = (uint32_t)(a * a) + (uint32_t)(b * b);
  /* Below 2^31, for |a| and |b| are below 2^15 or, rounded down, at it: 2 * 2^30. */
  const uint32_t mantissa = power >> 15;
  const uint32_t kept = mantissa > 0xFFFFu ? 0xFFFFu : mantissa;
  return (int32_t)((kept << 16) | (uint32_t)(right + kExponentBias));
}

/* In place: the transform of even samples + i * odd samples -> packed power of bins 0 .. kFftSize / 2, where bin k lies
 * at 2k and the last one at 1; of half the amplitude. */
static void take_powers(int32_t *z) {
  const int32_t first = (z[0] >> 1) + (z[1] >> 1);
  const int32_t last = (z[0] >> 1) - (z[1] >> 1);
  z[0] = packed_power(first, 0);
  z[1] = packed_power(last, 0);
  for (int32_t k = 1; k <= kComplexSize / 2; ++k) {
    int32_t *a = &z[2 * k];
    int32_t *b = &z[2 * (kComplexSize - k)];
    const int32_t even_real = (a[0] >> 2) + (b[0] >> 2);
    const int32_t even_imag = (a[1] >> 2) - (b[1] >> 2);
    const KwsComplex odd = {(a[1] >> 2) + (b[1] >> 2), (b[0] >> 2) - (a[0] >> 2)};
    const KwsComplex turned = rotated(odd, k);
    b[0] = packed_power(even_real - turned.real, turned.imag - even_imag);
    a[0] = packed_power(even_real + turned.real, even_imag + turned.imag);
  }
}

static uint32_t packed_bin(const int32_t *z, int32_t bin) {
  return (uint32_t)(bin < kComplexSize ? z[2 * bin] : z[1]);
}

/* 65536 * binary logarithm of value * 2^exponent, value > 0, by linear interpolation. */
static int32_t log2_q16(uint32_t value, int32_t exponent) {
  const int32_t bits = bits_of(value);
  const uint32_t fraction = (value << (kUint32Bits - bits)) << 1;
  const uint32_t entry = fraction >> (kUint32Bits - kLogTableBits);
  const uint32_t rest = (fraction >> (kUint32Bits - kLogTableBits - 16)) & 0xFFFFu;
  const uint32_t step = kLog2Q16[entry + 1] - kLog2Q16[entry];
  return (bits - 1 + exponent) * 65536 + (int32_t)(kLog2Q16[entry] + ((step * rest + 0x8000u) >> 16));
}

/* The same of (value * 2^exponent + kLogOffset). */
static int32_t log2_with_offset_q16(uint32_t value, int32_t exponent) {
  if (value == 0) {
    return log2_q16(kLogOffsetMantissa, kLogOffsetExponent);
  }
  /* Both with 31 bits, so that their sum has 32. */
  const int32_t left = kUint32Bits - 1 - bits_of(value);
  const uint32_t energy = left >= 0 ? value << left : value >> 1;
  const int32_t difference = exponent - left - kLogOffsetExponent;
  if (difference >= 0) {
    const uint32_t offset = difference < kUint32Bits ? kLogOffsetMantissa >> difference : 0;
    return log2_q16(energy + offset, exponent - left);
  }
  const uint32_t small = -difference < kUint32Bits ? energy >> -difference : 0;
  return log2_q16(kLogOffsetMantissa + small, kLogOffsetExponent);
}

static int32_t largest_exponent(const int32_t *z, int32_t first, int32_t count) {
  int32_t largest = 0;
  for (int32_t bin = first; bin < first + count; ++bin) {
    const int32_t exponent = (int32_t)(packed_bin(z, bin) & 0xFFFFu);
    largest = exponent > largest ? exponent : largest;
  }
  return largest;
}

/* `exponent`: that of the energies, as a power of two, of mantissas with exponent 0. */
static void log_mel(const int32_t *z, int32_t exponent, int32_t *bands) {
  const uint16_t *weight = kMelWeightsQ16;
  for (int32_t band = 0; band < kMelBands; ++band) {
    const int32_t largest = largest_exponent(z, kMelFirstBin[band], kMelBinCount[band]);
    uint32_t energy = 0;
    for (int32_t i = 0; i < kMelBinCount[band]; ++i) {
      const uint32_t power = packed_bin(z, kMelFirstBin[band] + i);
      const int32_t right = kMelGuardBits + 2 * (largest - (int32_t)(power & 0xFFFFu));
      energy += right < kUint32Bits ? ((power >> kMantissaBits) * *weight) >> right : 0;
      ++weight;
    }
    bands[band] = log2_with_offset_q16(energy, exponent + 2 * (largest - kExponentBias));
  }
}

static KwsInteger quantize(int32_t log2_of_energy) {
  /* log2 * kStepsMantissa / 2^16 = steps * 2^kStepsFraction, in two products of 16 by 16 bits. */
  const int32_t high = (log2_of_energy >> 16) * kStepsMantissa;
  const int32_t low = (int32_t)((uint32_t)log2_of_energy & 0xFFFFu) * kStepsMantissa;
  const int32_t half = 1 << (kStepsFraction - 1);
  const int32_t integer = ((high + (low >> 16) + half) >> kStepsFraction) + kInputZeroPoint;
  return (KwsInteger)(integer < kIntegerMin ? kIntegerMin : (integer > kIntegerMax ? kIntegerMax : integer));
}

void kws_features_of_window(const int16_t *samples, KwsFrontendScratch *scratch, KwsInteger *frame) {
  const int32_t left = window_samples(samples, scratch->spectrum);
  complex_fft(scratch->spectrum);
  take_powers(scratch->spectrum);
  /* Window and scaling: 2^-(31 + left); FFT: 1 / kComplexSize; taken apart: 1 / 2; mantissa: 2^15 left out; weights:
   * 2^-16. */
  const int32_t amplitude = kFftStages + 1 - 31 - left;
  log_mel(scratch->spectrum, 2 * amplitude + 15 - 16 + kMelGuardBits, scratch->log_mel);
  for (int32_t band = 0; band < kMelBands; ++band) {
    frame[band] = quantize(scratch->log_mel[band]);
  }
}

float kws_frontend_log_mel(const KwsFrontendScratch *scratch, int32_t band) {
  return (float)scratch->log_mel[band] * (0.693147181f / 65536.0f);
}

#else
typedef int KwsFixedFeaturesAreNotBuilt;
#endif
