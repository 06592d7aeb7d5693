// Ctrl-C while an engine works.
#pragma once

#include <csignal>

#include "engine/engine.h"

namespace hadal::app {

/// While it lives, Ctrl-C makes the running step of `engine` give up instead of ending the program.
class InterruptGuard {
 public:
  explicit InterruptGuard(Engine& engine);
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  struct sigaction before_;
};

/// Set by Ctrl-C, and by SIGTERM: work that can be gone on with ends in order. A second Ctrl-C ends
/// the program at once.
class StopFlag {
 public:
  StopFlag();
  ~StopFlag();
  StopFlag(const StopFlag&) = delete;
  StopFlag& operator=(const StopFlag&) = delete;
  [[nodiscard]] bool set() const;

 private:
  struct sigaction interrupt_, terminate_;
};

}  // namespace hadal::app
