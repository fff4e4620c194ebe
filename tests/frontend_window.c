/* Test program: raw samples on standard input, in blocks of 7 -> the model's input after the last of them, as bytes. */

#include <stdio.h>

#include "frontend.h"

int main(void) {
  static KwsFrontend frontend;
  static KwsInteger input[kInputElements];
  int16_t samples[7];
  int32_t count;
  kws_frontend_reset(&frontend);
  while ((count = (int32_t)fread(samples, sizeof(int16_t), 7, stdin)) > 0) {
    for (int32_t taken = 0; taken < count;) {
      taken += kws_frontend_push(&frontend, samples + taken, count - taken);
    }
  }
  kws_frontend_write_input(&frontend, input);
  fwrite(input, 1, sizeof(input), stdout);
  return 0;
}
