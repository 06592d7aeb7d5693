#include "output.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "text/tokenizer/utf8.h"

namespace hadal::app {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 16;

bool is_control(char32_t code) {
  return (code < 0x20 && code != U'\n' && code != U'\t') || (code >= 0x7f && code < 0xa0);
}

void append_escaped(std::string& out, std::string_view bytes) {
  for (const char c : bytes) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
}

std::string visible(std::string_view text) {
  VisibleText all;
  std::string out = all.push(text);
  return out + all.finish();
}

}  // namespace

void reserve_standard_descriptors() {
  // open takes the lowest descriptor that is free. A read-only standard output refuses every write.
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
    if (::fcntl(fd, F_GETFD) == -1)
      (void)!::open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY);
}

std::string VisibleText::push(std::string_view piece) {
  held_ += piece;
  const std::string text = std::exchange(held_, {});
  std::string out;
  for (std::string_view rest = text; !rest.empty();) {
    const Utf8Step step = utf8_step(rest);
    const bool return_at_end = rest == "\r";
    if (step.kind == Utf8Step::kIncomplete || return_at_end) {
      held_ = rest;
      break;
    }
    const std::string_view bytes = rest.substr(0, step.bytes);
    const bool line_end = rest.starts_with("\r\n");
    if (step.kind == Utf8Step::kInvalid || (is_control(step.code) && !line_end))
      append_escaped(out, bytes);
    else
      out += bytes;
    rest.remove_prefix(step.bytes);
  }
  return out;
}

std::string VisibleText::finish() {
  std::string out;
  append_escaped(out, std::exchange(held_, {}));
  return out;
}

Output::Output() : terminal_(::isatty(STDOUT_FILENO) != 0) {
  const int flags = ::fcntl(STDOUT_FILENO, F_GETFL);
  if (flags == -1 || (flags & O_ACCMODE) == O_RDONLY) fail(EBADF);
}

void Output::write(std::string_view text) {
  if (terminal_)
    buffer_ += visible_.push(text);
  else
    buffer_ += text;
  if (buffer_.size() >= kBufferBytes) drain();
}

void Output::style(std::string_view sequence) {
  buffer_ += visible_.finish();
  buffer_ += sequence;
}

void Output::fail(int error_number) {
  if (error_ == 0) error_ = error_number;
  buffer_.clear();
}

void Output::drain() {
  std::string_view rest = buffer_;
  while (error_ == 0 && !rest.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (written >= 0) {
      rest.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {  // whoever started us made it non-blocking
      pollfd wait{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
      ::poll(&wait, 1, -1);
    } else if (errno != EINTR) {
      fail(errno);
      return;
    }
  }
  buffer_.clear();
}

Status Output::flush() {
  drain();
  pollfd reader{.fd = STDOUT_FILENO, .events = 0, .revents = 0};
  if (error_ == 0 && ::poll(&reader, 1, 0) == 1 && (reader.revents & (POLLERR | POLLHUP)) != 0)
    fail(EPIPE);
  if (error_ == 0) return {};
  return failed("cannot write to standard output: " + std::generic_category().message(error_));
}

Status Output::finish() {
  style("");
  return flush();
}

std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : visible(text))
    if (c == '\n' || c == '\t' || c == '\r')
      append_escaped(line, {&c, 1});
    else
      line += c;
  return line;
}

void print_error(std::string_view message) {
  std::fprintf(stderr, "hadal: %s\n", one_line(message).c_str());
}

void print_error(const Error& error) {
  std::string message = error.message;
  if (error.setting == Setting::kContext) message += fmt::format(" (--ctx {})", error.suggestion);
  if (error.setting == Setting::kTailRows) message += " (--v41-tail)";
  if (error.setting == Setting::kCacheBf16) message += " (--kv-cache-dtype bf16)";
  print_error(message);
}

void print_note(std::string_view text) { std::fprintf(stderr, "%s\n", visible(text).c_str()); }

}  // namespace hadal::app
