#include "audio_ring.h"

#include <string.h>

static int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

static int32_t place_of(uint32_t count) { return (int32_t)(count & (uint32_t)(kAudioRingSamples - 1)); }

int32_t audio_ring_push(AudioRing *ring, const int16_t *samples, int32_t count) {
  const uint32_t written = ring->written;
  const int32_t held = (int32_t)(written - __atomic_load_n(&ring->taken, __ATOMIC_ACQUIRE));
  const int32_t put = smaller(count, kAudioRingSamples - held);
  const int32_t place = place_of(written);
  const int32_t before_end = smaller(put, kAudioRingSamples - place);
  memcpy(ring->samples + place, samples, (size_t)before_end * sizeof(int16_t));
  memcpy(ring->samples, samples + before_end, (size_t)(put - before_end) * sizeof(int16_t));
  __atomic_store_n(&ring->written, written + (uint32_t)put, __ATOMIC_RELEASE);
  __atomic_store_n(&ring->lost, ring->lost + (uint32_t)(count - put), __ATOMIC_RELAXED);
  return put;
}

int32_t audio_ring_pop(AudioRing *ring, int16_t *samples, int32_t count) {
  const uint32_t taken = ring->taken;
  const int32_t held = (int32_t)(__atomic_load_n(&ring->written, __ATOMIC_ACQUIRE) - taken);
  const int32_t got = smaller(count, held);
  const int32_t place = place_of(taken);
  const int32_t before_end = smaller(got, kAudioRingSamples - place);
  memcpy(samples, ring->samples + place, (size_t)before_end * sizeof(int16_t));
  memcpy(samples + before_end, ring->samples, (size_t)(got - before_end) * sizeof(int16_t));
  __atomic_store_n(&ring->taken, taken + (uint32_t)got, __ATOMIC_RELEASE);
  return got;
}

uint32_t audio_ring_lost(const AudioRing *ring) { return __atomic_load_n(&ring->lost, __ATOMIC_RELAXED); }
