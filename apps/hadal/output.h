// What the program prints: Output is standard output, the one way in which a command prints its
// result; print_error and print_note are what a person reads on stderr.
//
// A terminal obeys control characters, and texts of models, files and arguments may hold any. So
// none but newline and tab reaches a terminal as it is: the others are shown as \xNN. A pipe or a
// file gets the result's own bytes. On stderr they are shown as \xNN always, since logs are read on
// terminals later.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace hadal::app {

/// Gives descriptors 0, 1 and 2 a place where the caller closed them. A file that is opened later
/// would otherwise become standard output. Reading then ends at once and writing to 1 fails.
void reserve_standard_descriptors();

/// Makes control characters visible: C0 but newline and tab (a carriage return passes before a
/// newline), DEL, C1, and bytes that are no UTF-8. The text comes in pieces, which may be cut in
/// the middle of a character.
class VisibleText {
 public:
  std::string push(std::string_view piece);
  /// What was held back and never became whole.
  std::string finish();

 private:
  std::string held_;
};

/// The text with every control character made visible, newline and tab too: fit to be one line, on
/// a terminal or not.
std::string one_line(std::string_view text);

/// Standard output. The first write that fails is remembered, and what is printed after it is
/// dropped; flush says so. A command that works on after printing asks flush and ends.
class Output {
 public:
  Output();
  ~Output() { (void)finish(); }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  [[nodiscard]] bool terminal() const { return terminal_; }
  /// Text of the result; control characters are made visible on a terminal.
  void write(std::string_view text);
  template <typename... T>
  void print(fmt::format_string<T...> format, T&&... values) {
    write(fmt::format(format, std::forward<T>(values)...));
  }
  /// An escape sequence of our own, as it is.
  void style(std::string_view sequence);
  /// Hands over what was printed. Fails if anything could not be written, and also, with nothing
  /// to write, if the reader of a pipe has gone: so that long work can end.
  Status flush();
  /// flush at the end of the text.
  Status finish();

 private:
  void fail(int error_number);
  /// Writes the whole buffer.
  void drain();
  bool terminal_;
  int error_ = 0;  ///< errno of the first failure
  std::string buffer_;
  VisibleText visible_;
};

/// "hadal: MESSAGE" on stderr, in one line.
void print_error(std::string_view message);
/// The same with the option that would help, where one would.
void print_error(const Error& error);

/// A line, or several, for the person at the terminal, on stderr.
void print_note(std::string_view text);

}  // namespace hadal::app
