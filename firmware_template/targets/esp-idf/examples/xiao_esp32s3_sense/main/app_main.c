#include <stddef.h>

#include "kws_firmware.h"

void app_main(void);

void app_main(void) { (void)kws_main(0, NULL); }
