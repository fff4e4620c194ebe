#ifndef KWS_TESTS_I2S_COMMON_H_
#define KWS_TESTS_I2S_COMMON_H_

#include <stddef.h>
#include <stdint.h>

#include "esp_err.h"

typedef struct KwsTestsChannel *i2s_chan_handle_t;
typedef enum { I2S_NUM_0, I2S_NUM_1 } i2s_port_t;
typedef enum { I2S_ROLE_MASTER, I2S_ROLE_SLAVE } i2s_role_t;

typedef struct {
  int id;
  i2s_role_t role;
  uint32_t dma_desc_num;
  uint32_t dma_frame_num;
} i2s_chan_config_t;

#define I2S_CHANNEL_DEFAULT_CONFIG(port, the_role) {.id = port, .role = the_role, .dma_desc_num = 6, .dma_frame_num = 240}

esp_err_t i2s_new_channel(const i2s_chan_config_t *config, i2s_chan_handle_t *tx, i2s_chan_handle_t *rx);
esp_err_t i2s_channel_enable(i2s_chan_handle_t channel);
esp_err_t i2s_channel_read(i2s_chan_handle_t channel, void *bytes, size_t size, size_t *bytes_read, uint32_t timeout_ms);

#endif
