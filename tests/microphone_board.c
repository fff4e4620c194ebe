/* A board for platform_read_audio. Standard input is 32-bit words: how many samples to read a call, then for each wait how
 * many samples, which go on counting, the microphone gives. A wait takes 100 ms of this board's time, which is near its
 * wrap-around; after the last one nothing comes. Prints what each call returns with its first sample, and the errors. */

#include <stdio.h>

#include "microphone.h"
#include "platform.h"

enum { kMost = 1 << 18, kWaitUs = 100000 };

static uint32_t time_us = UINT32_MAX - 3 * kWaitUs;
static uint16_t next;

uint32_t platform_time_us(void) { return time_us; }

void platform_report_error(const char *message) { printf("error %s\n", message); }

void microphone_wait(void) {
  int32_t count;
  time_us += kWaitUs;
  if (fread(&count, sizeof(count), 1, stdin) != 1) {
    return;
  }
  for (; count > 0; --count) {
    const int16_t sample = (int16_t)next++;
    audio_ring_push(&microphone_ring, &sample, 1);
  }
}

int main(void) {
  static int16_t samples[kMost];
  int32_t wanted;
  int32_t got;
  if (fread(&wanted, sizeof(wanted), 1, stdin) != 1 || wanted > kMost) {
    return 1;
  }
  do {
    got = platform_read_audio(samples, wanted);
    printf("%d %d\n", (int)got, (int)(uint16_t)samples[0]);
  } while (got > 0);
  return 0;
}
