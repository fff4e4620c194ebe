/* A file of the emulating computer instead of a microphone, named on its command line; text goes to its console. */

#include <string.h>

#include "board.h"
#include "feature_params.h"
#include "platform.h"
#include "semihosting.h"
#include "wav.h"

enum { kCommandLineBytes = 512, kRawBytes = 0x7FFFFFFF };

static int32_t audio = -1;
static int audio_is_raw;
static uint32_t audio_bytes_left;

/* TFLM's, if it is linked. */
typedef void (*LogCallback)(const char *text);
__attribute__((weak)) void RegisterDebugLogCallback(LogCallback callback);

void platform_write(const char *text) { semihosting_write(text); }

void platform_report_error(const char *message) {
  semihosting_write(message);
  semihosting_write("\n");
}

static uint32_t read_file(void *source, unsigned char *bytes, uint32_t count) {
  (void)source;
  return semihosting_read(audio, bytes, count);
}

int platform_open(int argc, char **argv) {
  (void)argc;
  (void)argv;
  static char line[kCommandLineBytes];
  if (RegisterDebugLogCallback != 0) {
    RegisterDebugLogCallback(semihosting_write);
  }
  const char *space = semihosting_command_line(line, kCommandLineBytes) == 0 ? strchr(line, ' ') : NULL;
  if (space == NULL) {
    platform_report_error("name a WAV file, or - for raw samples on standard input, as the program's argument");
    return 1;
  }
  audio_is_raw = strcmp(space + 1, "-") == 0;
  audio = semihosting_open(audio_is_raw ? ":tt" : space + 1);
  if (audio < 0) {
    platform_report_error("the audio file cannot be opened");
    return 1;
  }
  const char *problem = audio_is_raw ? NULL : wav_read_header(read_file, NULL, kSampleRateHz, &audio_bytes_left);
  if (problem != NULL) {
    platform_report_error(problem);
    return 1;
  }
  audio_bytes_left = audio_is_raw ? kRawBytes - 1 : audio_bytes_left - audio_bytes_left % 2;
  return 0;
}

int32_t platform_read_audio(int16_t *samples, int32_t count) {
  unsigned char *bytes = (unsigned char *)samples;
  uint32_t wanted = 2 * (uint32_t)count;
  wanted = wanted < audio_bytes_left ? wanted : audio_bytes_left;
  const uint32_t got = semihosting_read(audio, bytes, wanted);
  if (got % 2 != 0 || (!audio_is_raw && got < wanted)) {
    platform_report_error("ends in the middle of its audio");
    return -1;
  }
  audio_bytes_left -= got;
  const int32_t done = (int32_t)(got / 2);
  wav_samples(bytes, samples, done);
  return done;
}

uint32_t platform_time_us(void) { return board_clock_us(); }
