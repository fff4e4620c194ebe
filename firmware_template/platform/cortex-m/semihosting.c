#include "semihosting.h"

#include <string.h>

/* Semihosting for AArch32 and AArch64, Arm document 2024Q3, "The semihosting operations". */
enum {
  kSysOpen = 0x01,
  kSysWrite0 = 0x04,
  kSysRead = 0x06,
  kSysGetCommandLine = 0x15,
  kSysExit = 0x18,
  kOpenRead = 1,
  kStoppedByError = 0x20023,
  kStoppedByExit = 0x20026
};

static uint32_t call(uint32_t operation, uint32_t argument) {
  register uint32_t r0 __asm__("r0") = operation;
  register uint32_t r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

void semihosting_write(const char *text) { call(kSysWrite0, (uint32_t)(uintptr_t)text); }

int32_t semihosting_open(const char *name) {
  const uint32_t block[3] = {(uint32_t)(uintptr_t)name, kOpenRead, (uint32_t)strlen(name)};
  return (int32_t)call(kSysOpen, (uint32_t)(uintptr_t)block);
}

uint32_t semihosting_read(int32_t handle, unsigned char *bytes, uint32_t count) {
  uint32_t done = 0;
  while (done < count) {
    const uint32_t block[3] = {(uint32_t)handle, (uint32_t)(uintptr_t)(bytes + done), count - done};
    const uint32_t missing = call(kSysRead, (uint32_t)(uintptr_t)block);
    if (missing >= count - done) {
      break;
    }
    done = count - missing;
  }
  return done;
}

int32_t semihosting_command_line(char *text, uint32_t bytes) {
  uint32_t block[2] = {(uint32_t)(uintptr_t)text, bytes};
  return (int32_t)call(kSysGetCommandLine, (uint32_t)(uintptr_t)block);
}

void semihosting_exit(int status) {
  for (;;) {
    call(kSysExit, status == 0 ? kStoppedByExit : kStoppedByError);
  }
}
