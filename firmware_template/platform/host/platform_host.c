/* A computer with a file instead of a microphone: plays a WAV file, or raw samples from standard input, as fast
 * as they can be used, and prints one line an inference. */

#define _POSIX_C_SOURCE 199309L

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "feature_params.h"
#include "labels.h"
#include "platform.h"
#include "wav.h"

static FILE *audio;
static const char *audio_name;
/* Bytes of audio that are to come; raw audio ends where the stream does. */
static uint64_t audio_bytes_left;
static int audio_is_raw;

void platform_report_error(const char *message) { fprintf(stderr, "%s: %s\n", audio_name, message); }

int platform_open(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s FILE.wav, or - for raw 16-bit little-endian mono samples at %d Hz on standard input\n",
            argc > 0 ? argv[0] : "kws", (int)kSampleRateHz);
    return 1;
  }
  audio_name = argv[1];
  audio_is_raw = strcmp(audio_name, "-") == 0;
  if (audio_is_raw) {
    audio = stdin;
    return 0;
  }
  audio = fopen(audio_name, "rb");
  if (audio == NULL) {
    platform_report_error("cannot be opened");
    return 1;
  }
  uint32_t data_bytes = 0;
  const char *problem = wav_read_header(audio, kSampleRateHz, &data_bytes);
  if (problem != NULL) {
    platform_report_error(problem);
    return 1;
  }
  audio_bytes_left = data_bytes - data_bytes % 2;
  return 0;
}

int32_t platform_read_audio(int16_t *samples, int32_t count) {
  int32_t done = 0;
  for (; done < count && (audio_is_raw || audio_bytes_left > 0); ++done) {
    unsigned char bytes[2];
    const size_t got = fread(bytes, 1, 2, audio);
    if (got == 0 && audio_is_raw && !ferror(audio)) {
      break;
    }
    if (got != 2) {
      platform_report_error("ends in the middle of its audio");
      return -1;
    }
    const int32_t value = bytes[0] | (bytes[1] << 8);
    samples[done] = (int16_t)(value < 0x8000 ? value : value - 0x10000);
    audio_bytes_left -= audio_is_raw ? 0 : 2;
  }
  return done;
}

uint32_t platform_time_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint32_t)((uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u);
}

/* A label is whatever a folder was called: control characters must not reach the terminal. */
static void print_label(const char *label) {
  for (; *label != '\0'; ++label) {
    const unsigned char byte = (unsigned char)*label;
    putchar(byte < 0x20 || byte == 0x7F ? '?' : byte);
  }
}

void platform_emit(const PlatformEvent *event) {
  int32_t best = 0;
  for (int32_t i = 1; i < kLabelCount; ++i) {
    best = event->posteriors[i] > event->posteriors[best] ? i : best;
  }
  printf("%u ms", (unsigned)event->stream_ms);
  for (int32_t i = 0; i < kLabelCount; ++i) {
    printf("\t%.4f", (double)event->posteriors[i]);
  }
  printf("\t");
  print_label(kLabels[best]);
  printf("\t%u us\n", (unsigned)event->inference_us);
}
