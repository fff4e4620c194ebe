#ifndef KWS_TESTS_ZEPHYR_DEVICETREE_H_
#define KWS_TESTS_ZEPHYR_DEVICETREE_H_

#define DT_ALIAS(name) name

#endif
