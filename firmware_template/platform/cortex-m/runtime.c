/* What the C and C++ libraries ask of a system without one, since -nostartfiles leaves it out. There is no heap: who
 * allocates gets NULL. */

#include <stddef.h>
#include <stdint.h>

#include "semihosting.h"

void *__dso_handle = 0;

int __aeabi_atexit(void *object, void (*destroy)(void *), void *handle);
void _init(void);
void _fini(void);
void *_sbrk(ptrdiff_t bytes);
void _exit(int status);
int _kill(int process, int signal);
int _getpid(void);
int _write(int file, const char *bytes, int count);
int _read(int file, char *bytes, int count);
int _close(int file);
int _lseek(int file, int offset, int from);
int _fstat(int file, void *status);
int _isatty(int file);

/* Destructors of static objects never run: main does not come back. */
int __aeabi_atexit(void *object, void (*destroy)(void *), void *handle) {
  (void)object;
  (void)destroy;
  (void)handle;
  return 0;
}

void _init(void) {}

void _fini(void) {}

void *_sbrk(ptrdiff_t bytes) {
  (void)bytes;
  return (void *)(intptr_t)-1;
}

void _exit(int status) { semihosting_exit(status == 0 ? 0 : 1); }

int _kill(int process, int signal) {
  (void)process;
  (void)signal;
  semihosting_write("KWS_ABORT: a library gave up\n");
  semihosting_exit(1);
}

int _getpid(void) { return 1; }

int _write(int file, const char *bytes, int count) {
  (void)file;
  (void)bytes;
  return count;
}

int _read(int file, char *bytes, int count) {
  (void)file;
  (void)bytes;
  (void)count;
  return 0;
}

int _close(int file) {
  (void)file;
  return -1;
}

int _lseek(int file, int offset, int from) {
  (void)file;
  (void)offset;
  (void)from;
  return 0;
}

int _fstat(int file, void *status) {
  (void)file;
  (void)status;
  return -1;
}

int _isatty(int file) {
  (void)file;
  return 1;
}
