// Words of a command line that a person pastes into a shell.
#include "base/text.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>

namespace hadal {
namespace {

/// What bash makes of the word.
std::string read_by_bash(const std::string& word) {
  // The outer shell is sh; the word gets through it unread.
  const std::string script = "bash <<'HADAL_END'\nprintf %s " + word + "\nHADAL_END\n";
  FILE* pipe = ::popen(script.c_str(), "r");
  std::string said;
  std::array<char, 256> part{};
  for (size_t n = 0; pipe && (n = std::fread(part.data(), 1, part.size(), pipe)) > 0;)
    said.append(part.data(), n);
  if (pipe) ::pclose(pipe);
  return said;
}

TEST(ShellWord, IsReadAsTheText) {
  for (const char* text : {"/a/libhadal_x-1.so", "/a b/c;$(touch x).so", "it's", "", "~/x", "*",
                           "a\nb\033[31m'\\", "/\xe8\x8a\xaf\xe7\x89\x87.so", "\xff\xfe",
                           "\xe2\x80\xae"
                           "os.x",
                           "-n", "a=b"}) {
    const std::string word = shell_word(text);
    EXPECT_EQ(read_by_bash(word), text) << word;
    for (const char c : word) EXPECT_FALSE(static_cast<unsigned char>(c) < 0x20) << word;
  }
  EXPECT_EQ(shell_word("/a/b.so"), "/a/b.so");
  EXPECT_EQ(shell_word("a b"), "'a b'");
  EXPECT_EQ(shell_word("\033"), "$'\\x1b'");
  EXPECT_EQ(shell_word("/\xe8\x8a\xaf"), "'/\xe8\x8a\xaf'");
}

}  // namespace
}  // namespace hadal
