#include "posteriors.h"

#include "posterior_tables.h"

static uint32_t power(int32_t below) {
  return ((uint32_t)kExpFine[below & 0xFF] * kExpCoarse[below >> 8] + kPosteriorOne / 2) / kPosteriorOne;
}

/* The zero point cancels out, and subtracting the largest logit keeps every power within 1. */
void kws_posteriors(const KwsInteger *logits, uint16_t *posteriors) {
  int32_t largest = logits[0];
  for (int32_t i = 1; i < kLabelCount; ++i) {
    largest = logits[i] > largest ? logits[i] : largest;
  }
  uint32_t sum = 0;
  for (int32_t i = 0; i < kLabelCount; ++i) {
    sum += power(largest - logits[i]);
  }
  for (int32_t i = 0; i < kLabelCount; ++i) {
    posteriors[i] = (uint16_t)((power(largest - logits[i]) * kPosteriorOne + sum / 2) / sum);
  }
}
