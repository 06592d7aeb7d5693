#include "queue.h"

#include <new>
#include <utility>

#include "contract/report.h"
#include "memory.h"

namespace hadal::apart {

Queue::Queue(Device& device) : device_(device), thread_([this] { work_off(); }) {}

Queue::~Queue() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Queue::append(Command command) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  changed_.notify_all();
}

void Queue::push(Work work) { append({.work = std::move(work), .dead = nullptr}); }

void Queue::release(std::shared_ptr<void> dead) {
  append({.work = nullptr, .dead = std::move(dead)});
}

void Queue::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return commands_.empty() && !busy_; });
}

hadal_status Queue::sync(hadal_error* error) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return commands_.empty() && !busy_; });
  if (device_.has_failed) return contract::report(error, HADAL_DEVICE_FAILED, kFellOff);
  const hadal_status status = std::exchange(status_, HADAL_OK);
  return status == HADAL_OK ? HADAL_OK : contract::report(error, status, error_.text);
}

void Queue::work_off() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return !commands_.empty() || closing_; });
    if (commands_.empty()) return;
    Command command = std::move(commands_.front());
    commands_.pop_front();
    busy_ = true;
    if (status_ != HADAL_OK || device_.has_failed) command.work = nullptr;
    lock.unlock();
    run(std::move(command));
    lock.lock();
    busy_ = false;
    if (commands_.empty()) changed_.notify_all();
  }
}

// By value: what the command owns is gone before the queue can be idle.
void Queue::run(Command command) {
  if (!command.work) return;
  hadal_error error{};
  error.size = sizeof error;
  hadal_status status = HADAL_OK;
  try {
    status = command.work(&error);
  } catch (const std::bad_alloc&) {
    status = contract::report(&error, HADAL_OUT_OF_MEMORY, "no memory left for queued work");
  } catch (const std::exception& e) {
    status = contract::report(&error, HADAL_DEVICE_FAILED, e.what());
  }
  if (status == HADAL_OK) return;
  const std::lock_guard lock(mutex_);
  status_ = status;
  error_ = error;
}

}  // namespace hadal::apart
