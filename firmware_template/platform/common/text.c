#include "text.h"

const char *text_of_number(char *text, int32_t value, int32_t decimals) {
  char digits[kTextNumberBytes];
  int32_t count = 0;
  uint32_t rest = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
  while (rest > 0 || count <= decimals) {
    digits[count++] = (char)('0' + rest % 10);
    rest /= 10;
  }
  char *out = text;
  if (value < 0) {
    *out++ = '-';
  }
  while (count > 0) {
    *out++ = digits[--count];
    if (count == decimals && decimals > 0) {
      *out++ = '.';
    }
  }
  *out = '\0';
  return text;
}
