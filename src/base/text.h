// Text that came from outside and goes to a terminal or a shell.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hadal {

/// Control characters of a text that ends with NUL become '?'.
inline void blank_controls(char* text) {
  for (; *text != '\0'; ++text)
    if (static_cast<unsigned char>(*text) < 0x20 || *text == 0x7f) *text = '?';
}

/// Bytes of the well-formed UTF-8 character that starts `text`, 0 if there is none; its number in
/// `code`. `text` is not empty.
size_t utf8_char(std::string_view text, uint32_t& code);

/// Characters that would act on a terminal or reorder what is read.
bool acts_on_terminals(uint32_t code);

/// `text` as one word of a POSIX shell's command line, fit to be printed: as it is where the shell
/// sees nothing in it, else in quotes; $'…' with \xNN where it holds what must not be printed.
std::string shell_word(std::string_view text);

}  // namespace hadal
