// The options of a command that generates: sampling, stop strings, length.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>

#include "session/session.h"

namespace hadal::app {

struct AnswerFlags {
  AnswerOptions options;

  /// max_new: the default of --max-new; 0: until the context is full, which is allowed only where
  /// it is the default.
  void declare(CLI::App& command, int64_t max_new);
  /// What was given.
  [[nodiscard]] AnswerOptions answer() const;

 private:
  std::optional<int64_t> seed_;
};

}  // namespace hadal::app
