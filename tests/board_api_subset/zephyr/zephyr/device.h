#ifndef KWS_TESTS_ZEPHYR_DEVICE_H_
#define KWS_TESTS_ZEPHYR_DEVICE_H_

#include <stdbool.h>

struct device {
  const char *name;
};

extern const struct device kws_tests_device;

#define DEVICE_DT_GET(node) (&kws_tests_device)

bool device_is_ready(const struct device *device);

#endif
