/* A PDM microphone on the I2S peripheral of an ESP32-S3; pins from Kconfig, by default those of the XIAO ESP32S3 Sense.
 * Text goes to the console. */

#include <stdio.h>

#include "driver/i2s_common.h"
#include "driver/i2s_pdm.h"
#include "esp_err.h"
#include "esp_timer.h"
#include "feature_params.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "microphone.h"
#include "platform.h"
#include "sdkconfig.h"

enum { kBlockSamples = 256, kReaderStackBytes = 4096, kReaderPriority = 10, kReadTimeoutMs = 1000, kWaitMs = 20 };

static i2s_chan_handle_t channel;
static TaskHandle_t listener;

void platform_write(const char *text) {
  fputs(text, stdout);
  fflush(stdout);
}

void platform_report_error(const char *message) { printf("kws: %s\n", message); }

uint32_t platform_time_us(void) { return (uint32_t)esp_timer_get_time(); }

void microphone_wait(void) { ulTaskNotifyTake(pdTRUE, pdMS_TO_TICKS(kWaitMs)); }

/* A read that fails gives no samples, which platform_read_audio notices. */
static void read_microphone(void *unused) {
  (void)unused;
  static int16_t block[kBlockSamples];
  for (;;) {
    size_t bytes = 0;
    if (i2s_channel_read(channel, block, sizeof(block), &bytes, kReadTimeoutMs) != ESP_OK) {
      vTaskDelay(pdMS_TO_TICKS(kWaitMs));
    }
    audio_ring_push(&microphone_ring, block, (int32_t)(bytes / sizeof(block[0])));
    xTaskNotifyGive(listener);
  }
}

static esp_err_t start_microphone(void) {
  const i2s_chan_config_t channel_config = I2S_CHANNEL_DEFAULT_CONFIG(I2S_NUM_0, I2S_ROLE_MASTER);
  const i2s_pdm_rx_config_t config = {
      .clk_cfg = I2S_PDM_RX_CLK_DEFAULT_CONFIG(kSampleRateHz),
      .slot_cfg = I2S_PDM_RX_SLOT_DEFAULT_CONFIG(I2S_DATA_BIT_WIDTH_16BIT, I2S_SLOT_MODE_MONO),
      .gpio_cfg = {.clk = CONFIG_KWS_PDM_CLK_GPIO, .din = CONFIG_KWS_PDM_DATA_GPIO, .invert_flags = {.clk_inv = 0}},
  };
  esp_err_t error = i2s_new_channel(&channel_config, NULL, &channel);
  if (error == ESP_OK) {
    error = i2s_channel_init_pdm_rx_mode(channel, &config);
  }
  return error == ESP_OK ? i2s_channel_enable(channel) : error;
}

int platform_open(int argc, char **argv) {
  (void)argc;
  (void)argv;
  listener = xTaskGetCurrentTaskHandle();
  const esp_err_t error = start_microphone();
  if (error != ESP_OK) {
    platform_report_error("the microphone does not start:");
    platform_report_error(esp_err_to_name(error));
    return 1;
  }
  if (xTaskCreate(read_microphone, "kws_audio", kReaderStackBytes, NULL, kReaderPriority, NULL) != pdPASS) {
    platform_report_error("no memory for the task that reads the microphone");
    return 1;
  }
  return 0;
}
