#ifndef KWS_TESTS_ZEPHYR_PRINTK_H_
#define KWS_TESTS_ZEPHYR_PRINTK_H_

void printk(const char *format, ...);

#endif
