#include <stddef.h>

#include "kws_firmware.h"

int main(void) { return kws_main(0, NULL); }
