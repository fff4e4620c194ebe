/* Prints the log-mel frames of some audio, one frame a line: kMelBands natural logarithms of energy, then the same
 * as kMelBands integers of the model's input. Compare it with kws.features.LogMel. */

#include "frontend.h"
#include "platform.h"
#include "text.h"

enum { kDecimals = 7 };

static KwsFrontendState state;
static KwsFrontendScratch scratch;

static void print_frame(const KwsInteger *frame) {
  char text[kTextNumberBytes];
  for (int32_t band = 0; band < kMelBands; ++band) {
    const double scaled = (double)kws_frontend_log_mel(&scratch, band) * 1e7;
    platform_write(text_of_number(text, (int32_t)(scaled + (scaled < 0 ? -0.5 : 0.5)), kDecimals));
    platform_write(" ");
  }
  for (int32_t band = 0; band < kMelBands; ++band) {
    platform_write(text_of_number(text, frame[band], 0));
    platform_write(band + 1 < kMelBands ? " " : "\n");
  }
}

int main(int argc, char **argv) {
  if (platform_open(argc, argv) != 0) {
    return 1;
  }
  kws_frontend_reset(&state);
  int16_t samples[kHopSamples];
  int32_t count;
  while ((count = platform_read_audio(samples, kHopSamples)) > 0) {
    for (int32_t taken = 0; taken < count;) {
      KwsInteger frame[kMelBands];
      taken += kws_frontend_push(&state, samples + taken, count - taken);
      if (kws_frontend_pop(&state, &scratch, frame)) {
        print_frame(frame);
      }
    }
  }
  return count < 0 ? 1 : 0;
}
