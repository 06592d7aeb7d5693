#include "interrupt.h"

#include <atomic>

namespace hadal::app {
namespace {

// The one engine that a signal handler may reach; set by InterruptGuard only.
std::atomic<Engine*> interruptible{nullptr};

void on_interrupt(int) {
  if (Engine* engine = interruptible.load()) engine->interrupt();
}

std::atomic<bool> asked_to_stop{false};

void on_stop(int signal) {
  asked_to_stop = true;
  std::signal(signal, SIG_DFL);
}

}  // namespace

StopFlag::StopFlag() {
  asked_to_stop = false;
  struct sigaction action{};
  action.sa_handler = on_stop;
  sigaction(SIGINT, nullptr, &interrupt_);
  if (interrupt_.sa_handler != SIG_IGN) sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, &terminate_);
}

StopFlag::~StopFlag() {
  sigaction(SIGINT, &interrupt_, nullptr);
  sigaction(SIGTERM, &terminate_, nullptr);
}

bool StopFlag::set() const { return asked_to_stop; }

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
