/* Just enough WAV for the host tools: 16-bit PCM, one channel. */

#ifndef KWS_PLATFORM_HOST_WAV_H_
#define KWS_PLATFORM_HOST_WAV_H_

#include <stdint.h>
#include <stdio.h>

/* Reads the header of `file` up to the first sample and sets the length of the audio. Returns NULL, or what is
 * wrong with the file. */
const char *wav_read_header(FILE *file, uint32_t sample_rate_hz, uint32_t *data_bytes);

#endif /* KWS_PLATFORM_HOST_WAV_H_ */
