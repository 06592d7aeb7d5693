#include "events.h"

#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <string>

#include "contract/report.h"
#include "memory.h"
#include "queue.h"

namespace hadal::apart {
namespace {

using contract::guarded;
using contract::report;

/// How often the event was recorded, and how many of those records the queues have passed.
struct State {
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t recorded = 0, passed = 0;
};
struct Event {
  std::shared_ptr<State> state = std::make_shared<State>();
};

Event* event_of(hadal_event* event) { return reinterpret_cast<Event*>(event); }

hadal_status create(hadal_device*, hadal_event** out, hadal_error* error) {
  *out = nullptr;
  return guarded(error, [&] {
    *out = reinterpret_cast<hadal_event*>(new Event);
    return HADAL_OK;
  });
}

void destroy(hadal_event* event) { delete event_of(event); }

hadal_status record(hadal_event* event, hadal_queue* queue, hadal_error* error) {
  return guarded(error, [&] {
    const std::shared_ptr<State> state = event_of(event)->state;
    uint64_t number = 0;
    {
      const std::lock_guard lock(state->mutex);
      number = ++state->recorded;
    }
    // As something that dies behind the work, so that it happens even if that failed: whoever waits
    // must not hang.
    queue_of(queue)->release(std::shared_ptr<void>(nullptr, [state, number](void*) {
      const std::lock_guard lock(state->mutex);
      state->passed = std::max(state->passed, number);
      state->changed.notify_all();
    }));
    return HADAL_OK;
  });
}

hadal_status wait(hadal_event* event, hadal_queue* queue, hadal_error* error) {
  return guarded(error, [&] {
    const std::shared_ptr<State> state = event_of(event)->state;
    const std::unique_lock lock(state->mutex);
    queue_of(queue)->push([state, number = state->recorded](hadal_error*) {
      std::unique_lock held(state->mutex);
      state->changed.wait(held, [&] { return state->passed >= number; });
      return HADAL_OK;
    });
    return HADAL_OK;
  });
}

hadal_status pinned_alloc(hadal_device*, uint64_t bytes, void** out, hadal_error* error) {
  *out = std::aligned_alloc(kAlignment, (bytes / kAlignment + 1) * kAlignment);
  if (*out) return HADAL_OK;
  return report(error, HADAL_OUT_OF_MEMORY,
                "no memory left for " + std::to_string(bytes) + " pinned bytes");
}

void pinned_free(hadal_device*, void* memory) { std::free(memory); }

}  // namespace

const hadal_events_table kEvents = {
    .size = sizeof kEvents,
    .queues = 8,
    .create = create,
    .destroy = destroy,
    .record = record,
    .wait = wait,
    .pinned_alloc = pinned_alloc,
    .pinned_free = pinned_free,
    .peer_copy = copy_in_device,  // all memory is this process's
};

}  // namespace hadal::apart
