/* platform_read_audio for a board whose microphone writes into a ring. The board's file implements microphone_wait and
 * the rest of platform.h, and pushes samples into microphone_ring. */

#ifndef KWS_MICROPHONE_H_
#define KWS_MICROPHONE_H_

#include <stdint.h>

#include "audio_ring.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  /* So long without a sample is an error. */
  kMicrophoneSilentUs = 2000000,
  /* From one report of lost samples to the next, in seconds of audio read. */
  kMicrophoneReportSeconds = 10
};

extern AudioRing microphone_ring;

/* Lets others run until there may be new samples, for at most some tens of milliseconds. */
void microphone_wait(void);

#ifdef __cplusplus
}
#endif

#endif /* KWS_MICROPHONE_H_ */
