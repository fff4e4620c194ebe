#ifndef KWS_TESTS_ESP_TIMER_H_
#define KWS_TESTS_ESP_TIMER_H_

#include <stdint.h>

int64_t esp_timer_get_time(void);

#endif
