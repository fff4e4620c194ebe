#include "window.h"

#include <string.h>

void kws_window_reset(KwsWindow *window) {
  window->count = 0;
  window->next = 0;
}

void kws_window_push(KwsWindow *window, const KwsInteger *frame) {
  memcpy(window->frames[window->next], frame, sizeof(window->frames[0]));
  window->next = window->next + 1 < kFrames ? window->next + 1 : 0;
  window->count += window->count < kFrames;
}

int32_t kws_window_write(const KwsWindow *window, KwsInteger *input) {
  if (window->count < kFrames) {
    return 0;
  }
  int32_t oldest = window->next;
  for (int32_t t = 0; t < kFrames; ++t) {
    const KwsInteger *frame = window->frames[oldest];
    for (int32_t band = 0; band < kMelBands; ++band) {
      input[band * kFrames + t] = frame[band];
    }
    oldest = oldest + 1 < kFrames ? oldest + 1 : 0;
  }
  return 1;
}
