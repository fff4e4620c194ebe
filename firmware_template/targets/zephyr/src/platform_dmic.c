/* The microphone with the alias dmic0, read by the DMIC driver; text goes to the console. */

#include <zephyr/audio/dmic.h>
#include <zephyr/device.h>
#include <zephyr/devicetree.h>
#include <zephyr/kernel.h>
#include <zephyr/sys/printk.h>

#include "feature_params.h"
#include "microphone.h"
#include "platform.h"

enum {
  kBlockMs = 20,
  kBlockBytes = kSampleRateHz * kBlockMs / 1000 * 2,
  kBlocks = 8,
  kReaderStackBytes = 2048,
  kReaderPriority = 5,
  kReadTimeoutMs = 200,
  kWaitMs = 20,
  /* What PDM microphones in general take. */
  kClockLeastHz = 1000000,
  kClockMostHz = 3500000,
  kDutyLeastPercent = 40,
  kDutyMostPercent = 60
};

K_MEM_SLAB_DEFINE_STATIC(blocks, kBlockBytes, kBlocks, 4);
K_SEM_DEFINE(new_samples, 0, 1);
K_THREAD_STACK_DEFINE(reader_stack, kReaderStackBytes);
static struct k_thread reader;
static const struct device *const microphone = DEVICE_DT_GET(DT_ALIAS(dmic0));

void platform_write(const char *text) { printk("%s", text); }

void platform_report_error(const char *message) { printk("kws: %s\n", message); }

uint32_t platform_time_us(void) { return (uint32_t)k_ticks_to_us_floor64((uint64_t)k_uptime_ticks()); }

void microphone_wait(void) { (void)k_sem_take(&new_samples, K_MSEC(kWaitMs)); }

/* The driver stops where it finds no free block; starting it again is harmless while it runs. */
static void read_microphone(void *first, void *second, void *third) {
  (void)first;
  (void)second;
  (void)third;
  for (;;) {
    void *block = NULL;
    size_t bytes = 0;
    if (dmic_read(microphone, 0, &block, &bytes, kReadTimeoutMs) != 0) {
      (void)dmic_trigger(microphone, DMIC_TRIGGER_START);
      continue;
    }
    (void)audio_ring_push(&microphone_ring, (const int16_t *)block, (int32_t)(bytes / sizeof(int16_t)));
    k_mem_slab_free(&blocks, block);
    k_sem_give(&new_samples);
  }
}

static int start_microphone(void) {
  struct pcm_stream_cfg stream = {
      .pcm_rate = kSampleRateHz, .pcm_width = 16, .block_size = kBlockBytes, .mem_slab = &blocks};
  struct dmic_cfg config = {
      .io = {.min_pdm_clk_freq = kClockLeastHz,
             .max_pdm_clk_freq = kClockMostHz,
             .min_pdm_clk_dc = kDutyLeastPercent,
             .max_pdm_clk_dc = kDutyMostPercent},
      .streams = &stream,
      .channel = {.req_chan_map_lo = dmic_build_channel_map(0, 0, PDM_CHAN_LEFT),
                  .req_num_chan = 1,
                  .req_num_streams = 1},
  };
  const int error = dmic_configure(microphone, &config);
  return error == 0 ? dmic_trigger(microphone, DMIC_TRIGGER_START) : error;
}

int platform_open(int argc, char **argv) {
  (void)argc;
  (void)argv;
  if (!device_is_ready(microphone) || start_microphone() != 0) {
    platform_report_error("the microphone does not start");
    return 1;
  }
  (void)k_thread_create(&reader, reader_stack, K_THREAD_STACK_SIZEOF(reader_stack), read_microphone, NULL, NULL, NULL,
                        K_PRIO_COOP(kReaderPriority), 0, K_NO_WAIT);
  return 0;
}
