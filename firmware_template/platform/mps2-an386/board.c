/* The clock: the counter of FPGAIO, behind a prescaler that the 25 MHz system clock feeds (Arm application note 386). */

#include "board.h"

enum { kSystemClockMhz = 25 };

#define FPGAIO_COUNTER ((volatile uint32_t *)0x40028018u)
#define FPGAIO_PRESCALE ((volatile uint32_t *)0x4002801Cu)

void board_clock_start(void) { *FPGAIO_PRESCALE = kSystemClockMhz - 1; }

uint32_t board_clock_us(void) { return *FPGAIO_COUNTER; }
