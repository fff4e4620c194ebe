/* Vector table and what happens before main, for every Cortex-M. */

#include <stdint.h>

#include "board.h"
#include "semihosting.h"

/* From sections.ld. */
extern uint32_t kws_data_source[], kws_data_start[], kws_data_end[], kws_bss_start[], kws_bss_end[];
extern uint32_t kws_stack_bottom[], kws_stack_top[];

extern int main(int argc, char **argv);
extern void __libc_init_array(void);

void reset_handler(void);
static void fault_handler(void);

typedef void (*Vector)(void);

enum { kExceptions = 15, kReservedWords = 16 };

static const uint32_t kUnusedStack = 0xA5A5A5A5u;

typedef struct VectorTable {
  uint32_t *stack;
  Vector exceptions[kExceptions];
} VectorTable;

/* The stack pointer, then the handlers of the core's own exceptions; no interrupt is ever enabled. */
static const VectorTable vectors __attribute__((section(".vectors"), used)) = {
    kws_stack_top,
    {reset_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler,
     fault_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler,
     fault_handler},
};

static void fault_handler(void) {
  semihosting_write("KWS_HARD_FAULT: the core took an exception\n");
  semihosting_exit(1);
}

#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
/* Access to CP10 and CP11: floating point, and vectors where there are any. Before any of their instructions. */
static void enable_coprocessors(void) {
  volatile uint32_t *const cpacr = (volatile uint32_t *)0xE000ED88u;
  *cpacr |= 0xFu << 20;
  __asm__ volatile("dsb\n\tisb" ::: "memory");
#ifdef __ARM_FEATURE_MVE
  /* Low-overhead branches: CCR.LOB. */
  volatile uint32_t *const ccr = (volatile uint32_t *)0xE000ED14u;
  *ccr |= 1u << 19;
  __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
}
#endif

uint32_t board_stack_used_bytes(void) {
  const uint32_t *word = kws_stack_bottom;
  while (word < kws_stack_top && *word == kUnusedStack) {
    ++word;
  }
  return (uint32_t)((uintptr_t)kws_stack_top - (uintptr_t)word);
}

void reset_handler(void) {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  enable_coprocessors();
#endif
  const uint32_t *source = kws_data_source;
  for (uint32_t *word = kws_data_start; word < kws_data_end; ++word) {
    *word = *source++;
  }
  for (uint32_t *word = kws_bss_start; word < kws_bss_end; ++word) {
    *word = 0;
  }
  /* Not what this function itself has on it. */
  const uint32_t *used;
  __asm__ volatile("mov %0, sp" : "=r"(used));
  for (uint32_t *word = kws_stack_bottom; word < used - kReservedWords; ++word) {
    *word = kUnusedStack;
  }
  board_clock_start();
  __libc_init_array();
  semihosting_exit(main(0, 0));
}
