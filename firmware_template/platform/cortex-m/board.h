/* What a Cortex-M board adds to startup.c and platform_semihosting.c. */

#ifndef KWS_PLATFORM_CORTEX_M_BOARD_H_
#define KWS_PLATFORM_CORTEX_M_BOARD_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Starts a free-running clock, then reads it: microseconds, wraps around at 32 bits. */
void board_clock_start(void);
uint32_t board_clock_us(void);

/* Bytes of the stack that were ever in use since the start. */
uint32_t board_stack_used_bytes(void);

#ifdef __cplusplus
}
#endif

#endif /* KWS_PLATFORM_CORTEX_M_BOARD_H_ */
