/* Prints the log-mel frames of some audio, one frame a line: kMelBands floats that read back exactly, then the
 * same as kMelBands integers of the model's input. Compare it with kws.features.LogMel. */

#include <stdio.h>

#include "frontend.h"
#include "platform.h"

static KwsFrontend frontend;

static void print_frame(void) {
  const KwsInteger *column = kws_frontend_newest_column(&frontend);
  for (int32_t band = 0; band < kMelBands; ++band) {
    printf("%.9g ", (double)frontend.log_mel[band]);
  }
  for (int32_t band = 0; band < kMelBands; ++band) {
    printf("%d%c", column[band], band + 1 < kMelBands ? ' ' : '\n');
  }
}

int main(int argc, char **argv) {
  if (platform_open(argc, argv) != 0) {
    return 1;
  }
  kws_frontend_reset(&frontend);
  int16_t samples[kHopSamples];
  int32_t count;
  while ((count = platform_read_audio(samples, kHopSamples)) > 0) {
    for (int32_t taken = 0; taken < count;) {
      taken += kws_frontend_push(&frontend, samples + taken, count - taken);
      if (frontend.frame_ready) {
        print_frame();
      }
    }
  }
  return count < 0 ? 1 : 0;
}
