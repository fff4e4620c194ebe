/* Samples on their way from the microphone's interrupt or task to the loop that reads them: a ring without locks.
 *
 * One writer and one reader, each of which may interrupt the other or run on another core. What finds no room is lost,
 * the newest first, and counted. C99 with the atomic built-ins of GCC and Clang; the caller owns the ring. */

#ifndef KWS_AUDIO_RING_H_
#define KWS_AUDIO_RING_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 1.024 s at 16 kHz: the time that one inference may take without a loss. */
#ifndef KWS_AUDIO_RING_SAMPLES
#define KWS_AUDIO_RING_SAMPLES 16384
#endif
#if KWS_AUDIO_RING_SAMPLES <= 0 || (KWS_AUDIO_RING_SAMPLES & (KWS_AUDIO_RING_SAMPLES - 1)) != 0
#error "KWS_AUDIO_RING_SAMPLES must be a power of two: the counts of samples wrap around."
#endif

enum { kAudioRingSamples = KWS_AUDIO_RING_SAMPLES };

/* All zero is an empty ring. */
typedef struct AudioRing {
  /* Samples since the start, modulo 2^32: `written` and `lost` are the writer's, `taken` the reader's. */
  uint32_t written;
  uint32_t taken;
  uint32_t lost;
  int16_t samples[kAudioRingSamples];
} AudioRing;

/* The writer's: puts in the first of `count` samples, 0 or more, for which there is room. Returns how many; the others are lost. */
int32_t audio_ring_push(AudioRing *ring, const int16_t *samples, int32_t count);

/* The reader's: takes out up to `count` samples, oldest first. Returns how many. */
int32_t audio_ring_pop(AudioRing *ring, int16_t *samples, int32_t count);

/* Samples lost since the start, modulo 2^32. For anyone. */
uint32_t audio_ring_lost(const AudioRing *ring);

#ifdef __cplusplus
}
#endif

#endif /* KWS_AUDIO_RING_H_ */
