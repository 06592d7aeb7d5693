#include "base/child.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>

namespace hadal {
namespace {

using Clock = std::chrono::steady_clock;

/// In the child. An exception ends it like a crash: it must not come out in a copy of the caller.
[[noreturn]] void answer(const std::function<std::string()>& ask, int to) noexcept {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // nobody waits for the answer then
  ::dup2(STDERR_FILENO, STDOUT_FILENO);
  std::string text = ask();
  text.push_back('\0');  // the answer is whole
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t written = ::write(to, rest.data(), rest.size());
    if (written > 0)
      rest.remove_prefix(static_cast<size_t>(written));
    else if (errno != EINTR)
      break;
  }
  ::_exit(0);
}

/// What comes until the answer is whole, the child has gone, or the time is over.
std::string read_answer(int from, Clock::time_point deadline) {
  std::string text;
  std::array<char, 4096> part{};
  while (text.empty() || text.back() != '\0') {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd wait{.fd = from, .events = POLLIN, .revents = 0};
    const int ready = left.count() <= 0 ? 0 : ::poll(&wait, 1, static_cast<int>(left.count()));
    if (ready == 0) break;
    const ssize_t n = ready < 0 ? -1 : ::read(from, part.data(), part.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(part.data(), static_cast<size_t>(n));
  }
  return text;
}

/// Waits for the child until the deadline; one that still runs then is ended, which is `late`.
int end_of(pid_t child, Clock::time_point deadline, bool& late) {
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    if (Clock::now() < deadline) {
      ::usleep(1000);
      continue;
    }
    late = true;
    ::kill(child, SIGKILL);
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    break;
  }
  return status;
}

}  // namespace

Result<std::string> ask_in_child(const std::function<std::string()>& ask, const std::string& doing,
                                 std::chrono::milliseconds limit) {
  const auto not_started = [] {
    return Error{ErrorCode::kBusy,
                 std::string("no process can be started for it: ") + std::strerror(errno)};
  };
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return not_started();
  const pid_t child = ::fork();
  if (child == 0) answer(ask, ends[1]);
  ::close(ends[1]);
  if (child < 0) {
    Error error = not_started();
    ::close(ends[0]);
    return error;
  }
  const Clock::time_point deadline = Clock::now() + limit;
  std::string text = read_answer(ends[0], deadline);
  ::close(ends[0]);
  const bool whole = !text.empty() && text.back() == '\0';
  bool late = false;
  const int status = end_of(child, whole ? Clock::now() : deadline, late);
  if (whole) {
    text.pop_back();
    return text;
  }
  if (late)
    return failed("it does not come back within " +
                  std::to_string(std::chrono::ceil<std::chrono::seconds>(limit).count()) +
                  " s when " + doing);
  if (WIFSIGNALED(status))
    return failed("it crashes when " + doing + " (" + ::strsignal(WTERMSIG(status)) + ")");
  return failed("it ends the process when " + doing);
}

}  // namespace hadal
