// Text that came from outside and goes to a terminal.
#pragma once

namespace hadal {

/// Control characters of a text that ends with NUL become '?'.
inline void blank_controls(char* text) {
  for (; *text != '\0'; ++text)
    if (static_cast<unsigned char>(*text) < 0x20 || *text == 0x7f) *text = '?';
}

}  // namespace hadal
