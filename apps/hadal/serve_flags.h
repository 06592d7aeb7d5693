// The options of a command that serves many requests at once.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "command.h"
#include "session/session.h"

namespace hadal::app {

struct ServeFlags {
  ModelFlags model;
  int64_t parallel = 16;
  double step_ms = 0;
  std::optional<std::string> chat_format;
  bool no_prompt_lookup = false;

  /// step_ms: the default of --step-ms.
  void declare(CLI::App& command, double step_ms);
  /// For a model whose limit of positions is `limit`.
  [[nodiscard]] SessionOptions session(int64_t limit) const;
};

}  // namespace hadal::app
