// The prompt of a chat on a terminal: libedit with history, and questions of several lines.
//
// Text is UTF-8 whatever the locale says. A line ends with Enter; a backslash at its end, or
// Alt-Enter, begins another one. A bracketed paste goes into the line as it is, newlines included.
// Ctrl-C clears what was typed.
#pragma once

#include <locale.h>

#include <csignal>
#include <cstdio>
#include <optional>
#include <string>

struct editline;
struct historyW;

namespace hadal::app {

/// One at a time, and standard input must be a terminal. While it lives, SIGINT does not end the
/// program, so that a Ctrl-C just after an answer does no harm.
class LineEditor {
 public:
  LineEditor();
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  /// The next question, without the newline at its end; nothing at the end of input (Ctrl-D).
  std::optional<std::string> read();

 private:
  static wchar_t* prompt(editline* editor);
  static unsigned char clear(editline* editor, wint_t key);

  FILE* screen_;             ///< where the prompt is shown
  locale_t utf8_;            ///< null if the system has none
  struct sigaction before_;  ///< what SIGINT did
  editline* editor_;
  historyW* history_;
  bool continued_ = false;  ///< in the second or a later line
  bool cleared_ = false;    ///< by Ctrl-C
  bool bracketed_ = false;  ///< the terminal marks what is pasted
};

}  // namespace hadal::app
