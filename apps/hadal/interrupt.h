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

}  // namespace hadal::app
