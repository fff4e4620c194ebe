/* The clock: TIMER0 of the nRF51, 32 bits at 16 MHz / 2^4 (nRF51 Series Reference Manual, chapter 18). */

#include "board.h"

#define TIMER0_START ((volatile uint32_t *)0x40008000u)
#define TIMER0_CAPTURE ((volatile uint32_t *)0x40008040u)
#define TIMER0_MODE ((volatile uint32_t *)0x40008504u)
#define TIMER0_BITMODE ((volatile uint32_t *)0x40008508u)
#define TIMER0_PRESCALER ((volatile uint32_t *)0x40008510u)
#define TIMER0_CC ((volatile uint32_t *)0x40008540u)

enum { kTimerMode = 0, kTimer32Bits = 3, kTimerPrescaler = 4 };

void board_clock_start(void) {
  *TIMER0_MODE = kTimerMode;
  *TIMER0_BITMODE = kTimer32Bits;
  *TIMER0_PRESCALER = kTimerPrescaler;
  *TIMER0_START = 1;
}

uint32_t board_clock_us(void) {
  *TIMER0_CAPTURE = 1;
  return *TIMER0_CC;
}
