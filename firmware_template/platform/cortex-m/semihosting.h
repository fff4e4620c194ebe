/* Arm semihosting: files and text of the computer that emulates or debugs the board. */

#ifndef KWS_PLATFORM_CORTEX_M_SEMIHOSTING_H_
#define KWS_PLATFORM_CORTEX_M_SEMIHOSTING_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

void semihosting_write(const char *text);

/* Opens a file to read bytes from; ":tt" is standard input. Returns a handle, or -1. */
int32_t semihosting_open(const char *name);

/* Returns how many bytes came, fewer only at the end of the file. */
uint32_t semihosting_read(int32_t handle, unsigned char *bytes, uint32_t count);

/* Copies the command line, the program's name first, and its NUL. Returns 0, or -1 if it does not fit. */
int32_t semihosting_command_line(char *text, uint32_t bytes);

/* Ends the emulation; status 0 is success. */
__attribute__((noreturn)) void semihosting_exit(int status);

#ifdef __cplusplus
}
#endif

#endif /* KWS_PLATFORM_CORTEX_M_SEMIHOSTING_H_ */
