#ifndef KWS_TESTS_ESP_ERR_H_
#define KWS_TESTS_ESP_ERR_H_

typedef int esp_err_t;

#define ESP_OK 0

const char *esp_err_to_name(esp_err_t code);

#endif
