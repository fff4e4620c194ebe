/* Numbers as text, without stdio: its printf would cost a board more than the front end. */

#ifndef KWS_PLATFORM_COMMON_TEXT_H_
#define KWS_PLATFORM_COMMON_TEXT_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { kTextNumberBytes = 24 };

/* Writes `value` / 10^decimals and a NUL to `text` of kTextNumberBytes; decimals in 0 .. 9. Returns `text`. */
const char *text_of_number(char *text, int32_t value, int32_t decimals);

#ifdef __cplusplus
}
#endif

#endif /* KWS_PLATFORM_COMMON_TEXT_H_ */
