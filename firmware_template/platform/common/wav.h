/* Just enough WAV for files instead of a microphone: 16-bit PCM, one channel. */

#ifndef KWS_PLATFORM_COMMON_WAV_H_
#define KWS_PLATFORM_COMMON_WAV_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Reads up to `count` bytes from whatever `source` is; returns how many came, fewer only at its end. */
typedef uint32_t (*WavReader)(void *source, unsigned char *bytes, uint32_t count);

/* Reads the header up to the first sample and sets the length of the audio. Returns NULL, or what is wrong with it. */
const char *wav_read_header(WavReader read, void *source, uint32_t sample_rate_hz, uint32_t *data_bytes);

/* Little-endian bytes as samples; `samples` may start at `bytes`. */
void wav_samples(const unsigned char *bytes, int16_t *samples, int32_t count);

#ifdef __cplusplus
}
#endif

#endif /* KWS_PLATFORM_COMMON_WAV_H_ */
