/* The newest kFrames feature frames: a ring, so that a hop computes only its own frame. The caller owns it. */

#ifndef KWS_SRC_WINDOW_H_
#define KWS_SRC_WINDOW_H_

#include <stdint.h>

#include "feature_params.h"
#include "model_params.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct KwsWindow {
  /* Frames held, up to kFrames. */
  int32_t count;
  int32_t next;
  KwsInteger frames[kFrames][kMelBands];
} KwsWindow;

/* Forgets all frames. Call it before anything else. */
void kws_window_reset(KwsWindow *window);

/* Takes a frame of kMelBands values in place of the oldest. */
void kws_window_push(KwsWindow *window, const KwsInteger *frame);

/* Writes the frames, oldest first, as the model wants them: mel band b of frame t is input[b * kFrames + t].
 * `input` has kInputElements values. Returns 1, or 0 and writes nothing while there are fewer than kFrames. */
int32_t kws_window_write(const KwsWindow *window, KwsInteger *input);

#ifdef __cplusplus
}
#endif

#endif /* KWS_SRC_WINDOW_H_ */
