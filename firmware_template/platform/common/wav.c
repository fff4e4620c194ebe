#include "wav.h"

#include <string.h>

enum { kFormatPcm = 1, kFormatExtensible = 0xFFFE, kFormatBytes = 16, kExtensibleBytes = 40 };

static uint32_t little_endian(const unsigned char *bytes, int count) {
  uint32_t value = 0;
  for (int i = count - 1; i >= 0; --i) {
    value = (value << 8) | bytes[i];
  }
  return value;
}

static int read_exactly(WavReader read, void *source, unsigned char *bytes, uint32_t count) {
  return read(source, bytes, count) == count;
}

/* Chunks are padded to even lengths. Reads instead of seeking: the source may be a pipe. */
static int skip(WavReader read, void *source, uint32_t count) {
  unsigned char bytes[64];
  for (uint64_t left = (uint64_t)count + (count & 1); left > 0;) {
    const uint32_t piece = left < sizeof(bytes) ? (uint32_t)left : (uint32_t)sizeof(bytes);
    if (!read_exactly(read, source, bytes, piece)) {
      return 0;
    }
    left -= piece;
  }
  return 1;
}

static const char *check_format(WavReader read, void *source, uint32_t chunk_bytes, uint32_t sample_rate_hz) {
  unsigned char format[kExtensibleBytes] = {0};
  const uint32_t known_bytes = chunk_bytes < kExtensibleBytes ? chunk_bytes : kExtensibleBytes;
  if (chunk_bytes < kFormatBytes || !read_exactly(read, source, format, known_bytes) ||
      !skip(read, source, chunk_bytes - known_bytes)) {
    return "its format chunk is damaged";
  }
  uint32_t tag = little_endian(format, 2);
  if (tag == kFormatExtensible) {
    tag = little_endian(format + 24, 2);
  }
  if (tag != kFormatPcm || little_endian(format + 14, 2) != 16) {
    return "its samples are not 16-bit PCM; convert it";
  }
  if (little_endian(format + 2, 2) != 1) {
    return "it has more than one channel; convert it to mono";
  }
  if (little_endian(format + 4, 4) != sample_rate_hz) {
    return "it has another sample rate than the model; resample it";
  }
  return NULL;
}

const char *wav_read_header(WavReader read, void *source, uint32_t sample_rate_hz, uint32_t *data_bytes) {
  unsigned char header[12];
  if (!read_exactly(read, source, header, 12) || memcmp(header, "RIFF", 4) != 0 || memcmp(header + 8, "WAVE", 4) != 0) {
    return "it is no WAV file";
  }
  int has_format = 0;
  while (read_exactly(read, source, header, 8)) {
    const uint32_t chunk_bytes = little_endian(header + 4, 4);
    if (memcmp(header, "data", 4) == 0) {
      *data_bytes = chunk_bytes;
      return has_format ? NULL : "its audio comes before its format";
    }
    if (memcmp(header, "fmt ", 4) == 0) {
      const char *problem = check_format(read, source, chunk_bytes, sample_rate_hz);
      if (problem != NULL) {
        return problem;
      }
      has_format = 1;
    } else if (!skip(read, source, chunk_bytes)) {
      break;
    }
  }
  return "it has no audio";
}

void wav_samples(const unsigned char *bytes, int16_t *samples, int32_t count) {
  for (int32_t i = 0; i < count; ++i) {
    const int32_t value = bytes[2 * i] | (bytes[2 * i + 1] << 8);
    samples[i] = (int16_t)(value < 0x8000 ? value : value - 0x10000);
  }
}
