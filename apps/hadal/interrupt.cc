#include "interrupt.h"

#include <atomic>

namespace hadal::app {
namespace {

// The one engine that a signal handler may reach; set by InterruptGuard only.
std::atomic<Engine*> interruptible{nullptr};

void on_interrupt(int) {
  if (Engine* engine = interruptible.load()) engine->interrupt();
}

}  // namespace

InterruptGuard::InterruptGuard(Engine& engine) {
  interruptible = &engine;
  struct sigaction action{};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, nullptr, &before_);
  // Who started us without Ctrl-C (nohup, a job in the background) means it.
  if (before_.sa_handler != SIG_IGN) sigaction(SIGINT, &action, nullptr);
}

InterruptGuard::~InterruptGuard() {
  sigaction(SIGINT, &before_, nullptr);
  interruptible = nullptr;
}

}  // namespace hadal::app
