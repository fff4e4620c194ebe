/* A writer and a reader on threads of their own: what comes out must count on, but where samples were lost. Prints how
 * many came out and how many were lost. */

#include <pthread.h>
#include <stdio.h>

#include "audio_ring.h"

enum { kBlock = 7, kBlocks = 400000, kRead = 5 };

static AudioRing ring;
static int32_t is_done;

static void *write_samples(void *unused) {
  (void)unused;
  uint16_t next = 0;
  for (int32_t block = 0; block < kBlocks; ++block) {
    int16_t samples[kBlock];
    for (int32_t i = 0; i < kBlock; ++i) {
      samples[i] = (int16_t)next++;
    }
    /* What is lost is sent again, so that all must come out. */
    next = (uint16_t)(next - (kBlock - audio_ring_push(&ring, samples, kBlock)));
  }
  __atomic_store_n(&is_done, 1, __ATOMIC_RELEASE);
  return NULL;
}

int main(void) {
  pthread_t writer;
  if (pthread_create(&writer, NULL, write_samples, NULL) != 0) {
    return 1;
  }
  uint32_t heard = 0;
  uint16_t next = 0;
  for (;;) {
    const int32_t was_done = __atomic_load_n(&is_done, __ATOMIC_ACQUIRE);
    int16_t samples[kRead];
    const int32_t got = audio_ring_pop(&ring, samples, kRead);
    for (int32_t i = 0; i < got; ++i) {
      if (samples[i] != (int16_t)next++) {
        fprintf(stderr, "sample %u is not the next one\n", (unsigned)heard);
        return 1;
      }
      ++heard;
    }
    if (was_done && got == 0) {
      break;
    }
  }
  pthread_join(writer, NULL);
  printf("%u %u\n", (unsigned)heard, (unsigned)audio_ring_lost(&ring));
  return 0;
}
