// What becomes of a child process that is asked something.
#include "base/child.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <stdexcept>

namespace hadal {
namespace {

using std::chrono::milliseconds;

Result<std::string> ask(const std::function<std::string()>& question, int limit = 10000) {
  return ask_in_child(question, "it is asked", milliseconds(limit));
}

std::string fault(const std::function<std::string()>& question, int limit = 10000) {
  const Result<std::string> said = ask(question, limit);
  return said ? "it says " + *said : said.error().message;
}

TEST(Child, Answers) {
  EXPECT_EQ(*ask([] { return std::string("yes"); }), "yes");
  EXPECT_EQ(*ask([] { return std::string(); }), "");
  const std::string much(3 << 20, 'x');  // more than a pipe holds
  EXPECT_EQ(*ask([&] { return much; }), much);
}

TEST(Child, ThatFailsIsAnError) {
  EXPECT_EQ(fault([]() -> std::string { std::abort(); }), "it crashes when it is asked (Aborted)");
  EXPECT_EQ(fault([]() -> std::string {
              std::signal(SIGSEGV, SIG_DFL);  // a sanitizer's handler would end it by itself
              std::raise(SIGSEGV);
              return "";
            }),
            "it crashes when it is asked (Segmentation fault)");
  EXPECT_EQ(fault([]() -> std::string { ::_exit(0); }), "it ends the process when it is asked");
  EXPECT_EQ(fault([]() -> std::string { throw std::runtime_error("x"); }),
            "it crashes when it is asked (Aborted)");
  EXPECT_EQ(fault(
                []() -> std::string {
                  for (;;) ::pause();
                },
                300),
            "it does not come back within 1 s when it is asked");
  EXPECT_EQ(fault(
                []() -> std::string {
                  for (int fd = 3; fd < 100; ++fd) ::close(fd);
                  for (;;) ::pause();
                },
                300),
            "it does not come back within 1 s when it is asked");
}

}  // namespace
}  // namespace hadal
