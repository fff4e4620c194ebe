/* platform_event for a board whose platform_write reaches a person: milliseconds, label and score, tabs between. */

#include "detector.h"
#include "labels.h"
#include "platform.h"
#include "posteriors.h"
#include "text.h"

/* A label is whatever a folder was called: control characters must not reach the terminal. */
static void write_label(const char *label) {
  for (; *label != '\0'; ++label) {
    const unsigned char byte = (unsigned char)*label;
    char text[2] = "?";
    if (byte >= 0x20 && byte != 0x7F) {
      text[0] = *label;
    }
    platform_write(text);
  }
}

void platform_event(const KwsEvent *event) {
  char text[kTextNumberBytes];
  /* Seconds and their thousandths: the milliseconds may be beyond int32_t. */
  platform_write(text_of_number(text, (int32_t)(event->time_ms / 1000), 0));
  platform_write(".");
  platform_write(text_of_number(text, 1000 + (int32_t)(event->time_ms % 1000), 0) + 1);
  platform_write("\t");
  write_label(kLabels[event->label]);
  platform_write("\t");
  platform_write(text_of_number(text, (event->score * 1000 + kPosteriorOne / 2) / kPosteriorOne, 3));
  platform_write("\n");
}
