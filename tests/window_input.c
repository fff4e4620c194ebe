/* Test program: frames on standard input -> the model's input after the last of them, as bytes; nothing if too few. */

#include <stdio.h>

#include "window.h"

int main(void) {
  static KwsWindow window;
  static KwsInteger input[kInputElements];
  KwsInteger frame[kMelBands];
  kws_window_reset(&window);
  while (fread(frame, sizeof(frame), 1, stdin) == 1) {
    kws_window_push(&window, frame);
  }
  if (kws_window_write(&window, input)) {
    fwrite(input, sizeof(input), 1, stdout);
  }
  return 0;
}
