/* What a board has to offer. One implementation a board, in platform/NAME/. */

#ifndef KWS_SRC_PLATFORM_H_
#define KWS_SRC_PLATFORM_H_

#include <stdint.h>

#include "detector.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Starts audio and clock, Returns 0, or non-zero after it has said what is wrong. A board ignores the arguments. */
int platform_open(int argc, char **argv);

/* Waits for `count` samples, 16-bit mono at kSampleRateHz. Returns how many came, fewer at the end of the
 * stream, then 0; negative after an error, which it has reported. */
int32_t platform_read_audio(int16_t *samples, int32_t count);

/* Time since some moment in the past; wraps around. */
uint32_t platform_time_us(void);

/* Tells of a keyword. */
void platform_event(const KwsEvent *event);

/* Text for a person who watches. */
void platform_write(const char *text);

/* Tells what went wrong. */
void platform_report_error(const char *message);

#ifdef __cplusplus
}
#endif

#endif /* KWS_SRC_PLATFORM_H_ */
