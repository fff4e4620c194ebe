/* Test program: raw samples on standard input, in blocks of argv[1] -> the frames, as bytes. */

#include <stdio.h>
#include <stdlib.h>

#include "frontend.h"

enum { kLargestBlock = 10000 };

int main(int argc, char **argv) {
  static KwsFrontendState state;
  static KwsFrontendScratch scratch;
  static int16_t samples[kLargestBlock];
  const size_t block = argc > 1 ? (size_t)atoi(argv[1]) : 7;
  int32_t count;
  kws_frontend_reset(&state);
  if (kws_frontend_state_bytes() != sizeof(state) || kws_frontend_scratch_bytes() != sizeof(scratch)) {
    return 2;
  }
  while ((count = (int32_t)fread(samples, sizeof(int16_t), block, stdin)) > 0) {
    for (int32_t taken = 0; taken < count;) {
      KwsInteger frame[kMelBands];
      /* Neither a block of nothing nor one while a frame waits may do anything. */
      if (kws_frontend_push(&state, samples, 0) != 0 || kws_frontend_push(&state, samples, -1) != 0) {
        return 3;
      }
      taken += kws_frontend_push(&state, samples + taken, count - taken);
      while (kws_frontend_pop(&state, &scratch, frame)) {
        fwrite(frame, sizeof(frame), 1, stdout);
      }
    }
  }
  return 0;
}
