#include "input.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "output.h"

namespace hadal::app {
namespace {

bool holds_context() {
  struct stat input{};
  if (::fstat(STDIN_FILENO, &input) != 0) return false;
  return S_ISFIFO(input.st_mode) || S_ISREG(input.st_mode) || S_ISSOCK(input.st_mode);
}

void trim_line_ends(std::string& text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
}

}  // namespace

Result<std::string> read_stdin() {
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t count = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (count == 0) return text;
    if (count > 0) {
      text.append(buffer, static_cast<size_t>(count));
    } else if (errno == EAGAIN) {  // whoever started us made it non-blocking
      pollfd wait{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
      ::poll(&wait, 1, -1);
    } else if (errno != EINTR) {
      return failed("cannot read standard input: " + std::generic_category().message(errno));
    }
  }
}

Result<std::optional<std::string>> whole_question(const std::optional<std::string>& given) {
  if (!given && ::isatty(STDIN_FILENO) != 0) return std::optional<std::string>();
  std::string question;
  if (!given || holds_context()) {
    pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (::poll(&input, 1, 2000) == 0)
      print_note("waiting for the end of standard input (< /dev/null: without it)");
    HADAL_TRY(question, read_stdin());
    trim_line_ends(question);
  }
  if (given) question += (question.empty() || given->empty() ? "" : "\n\n") + *given;
  if (question.empty()) return usage_error("the prompt is empty");
  return std::optional<std::string>(std::move(question));
}

}  // namespace hadal::app
