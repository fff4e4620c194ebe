/* Runs a ring of samples through the steps on standard input, 32-bit words: first where both counts start; then n >= 0 to
 * push n samples, which go on counting, or -n to pop n. Writes what each step returns, the samples popped, and last how
 * many were lost. */

#include <stdio.h>

#include "audio_ring.h"

enum { kMost = 4 * kAudioRingSamples };

static AudioRing ring;

static void put(int32_t value) { fwrite(&value, sizeof(value), 1, stdout); }

int main(void) {
  static int16_t samples[kMost];
  int16_t next = 0;
  int32_t step;
  if (fread(&step, sizeof(step), 1, stdin) != 1) {
    return 1;
  }
  ring.written = ring.taken = (uint32_t)step;
  while (fread(&step, sizeof(step), 1, stdin) == 1) {
    if (step >= 0) {
      for (int32_t i = 0; i < step; ++i) {
        samples[i] = next;
        next = (int16_t)(next == INT16_MAX ? 0 : next + 1);
      }
      put(audio_ring_push(&ring, samples, step));
      continue;
    }
    const int32_t got = audio_ring_pop(&ring, samples, -step);
    put(got);
    for (int32_t i = 0; i < got; ++i) {
      put(samples[i]);
    }
  }
  put((int32_t)audio_ring_lost(&ring));
  return 0;
}
