#include "output.h"

#include <gtest/gtest.h>

namespace hadal::app {
namespace {

/// `text` in pieces of `size` bytes.
std::string shown(const std::string& text, size_t size) {
  VisibleText visible;
  std::string out;
  for (size_t at = 0; at < text.size(); at += size) out += visible.push(text.substr(at, size));
  return out + visible.finish();
}

TEST(VisibleText, ShowsWhatATerminalWouldObey) {
  const std::pair<std::string, std::string> cases[] = {
      {"one\n\ttwo", "one\n\ttwo"},
      {"é 中文 😀", "é 中文 😀"},
      {"\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"},
      {std::string("\0\b\v\f\x7f", 5), "\\x00\\x08\\x0b\\x0c\\x7f"},
      {"\u0080\u009b31m\u009f\u00a0", "\\xc2\\x80\\xc2\\x9b31m\\xc2\\x9f\u00a0"},
      {"line\r\nover\rwritten\r", "line\r\nover\\x0dwritten\\x0d"},
      {"\x9b\xff\xc0\x80", "\\x9b\\xff\\xc0\\x80"},
      {"cut \xe4\xb8", "cut \\xe4\\xb8"},
  };
  for (const auto& [text, expected] : cases)
    for (size_t size = 1; size <= text.size(); ++size)
      EXPECT_EQ(shown(text, size), expected) << size;
}

TEST(VisibleText, HoldsBackNoMoreThanACharacter) {
  VisibleText visible;
  EXPECT_EQ(visible.push("a\xe4\xb8"), "a");
  EXPECT_EQ(visible.push("\xad"
                         "b\r"),
            "中b");
  EXPECT_EQ(visible.push("\n"), "\r\n");
  EXPECT_EQ(visible.finish(), "");
}

}  // namespace
}  // namespace hadal::app
