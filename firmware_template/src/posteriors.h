/* The model's logits -> posteriors, in integers, so that every core and kws.detector get the same. */

#ifndef KWS_SRC_POSTERIORS_H_
#define KWS_SRC_POSTERIORS_H_

#include <stdint.h>

#include "labels.h"
#include "model_params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A probability of 1. */
enum { kPosteriorOne = 32768 };

/* Softmax: kLabelCount logits of kOutputScale -> kLabelCount posteriors in 1 / kPosteriorOne. */
void kws_posteriors(const KwsInteger *logits, uint16_t *posteriors);

#ifdef __cplusplus
}
#endif

#endif /* KWS_SRC_POSTERIORS_H_ */
