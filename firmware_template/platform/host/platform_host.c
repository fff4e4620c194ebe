/* A computer with a file instead of a microphone: plays a WAV file, or raw samples from standard input, as fast
 * as they can be used, and prints one line an event. */

#define _POSIX_C_SOURCE 199309L

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "feature_params.h"
#include "platform.h"
#include "wav.h"

static FILE *audio;
static const char *audio_name;
/* Bytes of audio that are to come; raw audio ends where the stream does. */
static uint32_t audio_bytes_left;
static int audio_is_raw;

void platform_report_error(const char *message) { fprintf(stderr, "%s: %s\n", audio_name, message); }

void platform_write(const char *text) { fputs(text, stdout); }

static uint32_t read_file(void *source, unsigned char *bytes, uint32_t count) {
  return (uint32_t)fread(bytes, 1, count, (FILE *)source);
}

int platform_open(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s FILE.wav, or - for raw 16-bit little-endian mono samples at %d Hz on standard input\n",
            argc > 0 ? argv[0] : "kws", (int)kSampleRateHz);
    return 1;
  }
  audio_name = argv[1];
  if (strcmp(audio_name, "-") == 0) {
    audio = stdin;
    audio_is_raw = 1;
    return 0;
  }
  audio = fopen(audio_name, "rb");
  if (audio == NULL) {
    platform_report_error("cannot be opened");
    return 1;
  }
  const char *problem = wav_read_header(read_file, audio, kSampleRateHz, &audio_bytes_left);
  if (problem != NULL) {
    platform_report_error(problem);
    return 1;
  }
  audio_bytes_left -= audio_bytes_left % 2;
  return 0;
}

int32_t platform_read_audio(int16_t *samples, int32_t count) {
  unsigned char *bytes = (unsigned char *)samples;
  uint32_t wanted = 2 * (uint32_t)count;
  wanted = audio_is_raw || wanted < audio_bytes_left ? wanted : audio_bytes_left;
  const uint32_t got = read_file(audio, bytes, wanted);
  if (got % 2 != 0 || ferror(audio) || (!audio_is_raw && got < wanted)) {
    platform_report_error("ends in the middle of its audio");
    return -1;
  }
  audio_bytes_left -= audio_is_raw ? 0 : got;
  const int32_t done = (int32_t)(got / 2);
  wav_samples(bytes, samples, done);
  return done;
}

uint32_t platform_time_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint32_t)((uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u);
}
