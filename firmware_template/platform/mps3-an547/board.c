/* The clock: the counter of FPGAIO, behind a prescaler that a 20 MHz clock feeds, as QEMU's mps3-an547 has it. */

#include "board.h"

enum { kSystemClockMhz = 20 };

#define FPGAIO_COUNTER ((volatile uint32_t *)0x49302018u)
#define FPGAIO_PRESCALE ((volatile uint32_t *)0x4930201Cu)

void board_clock_start(void) { *FPGAIO_PRESCALE = kSystemClockMhz - 1; }

uint32_t board_clock_us(void) { return *FPGAIO_COUNTER; }
