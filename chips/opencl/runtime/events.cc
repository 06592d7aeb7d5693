#include "runtime/events.h"

#include "contract/report.h"

namespace hadal::opencl {
namespace {

constexpr uint32_t kQueues = 8;

/// A marker in a queue; null before the first record().
struct Event {
  Device& device;
  cl_event marker = nullptr;

  explicit Event(Device& of) : device(of) {}
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { forget(); }
  // OpenCL keeps a marker that a queue waits for.
  void forget() {
    if (marker) device.cl.clReleaseEvent(marker);
    marker = nullptr;
  }
};

Event* event_of(hadal_event* e) { return reinterpret_cast<Event*>(e); }

hadal_status create(hadal_device* device, hadal_event** out, hadal_error* error) {
  *out = nullptr;
  return contract::guarded(error, [&] {
    *out = reinterpret_cast<hadal_event*>(new Event(*device_of(device)));
    return HADAL_OK;
  });
}

void destroy(hadal_event* event) { delete event_of(event); }

hadal_status record(hadal_event* handle, hadal_queue* queue, hadal_error* error) {
  return contract::guarded(error, [&] {
    Event& event = *event_of(handle);
    const Functions& cl = event.device.cl;
    event.forget();
    cl_int status =
        cl.clEnqueueMarkerWithWaitList(queue_of(queue)->queue, 0, nullptr, &event.marker);
    if (status != CL_SUCCESS) event.marker = nullptr;
    // Another queue can wait only for what has been sent to the device.
    if (status == CL_SUCCESS) status = cl.clFlush(queue_of(queue)->queue);
    return status == CL_SUCCESS ? HADAL_OK
                                : contract::report(error, HADAL_DEVICE_FAILED,
                                                   failure("recording an event", status));
  });
}

// Devices have contexts of their own: for an event of another one the host waits.
hadal_status wait(hadal_event* handle, hadal_queue* queue, hadal_error* error) {
  return contract::guarded(error, [&] {
    const Event& event = *event_of(handle);
    if (!event.marker) return HADAL_OK;
    const Functions& cl = event.device.cl;
    const bool own = &queue_of(queue)->device == &event.device;
    cl_int status =
        own ? cl.clEnqueueBarrierWithWaitList(queue_of(queue)->queue, 1, &event.marker, nullptr)
            : cl.clWaitForEvents(1, &event.marker);
    // What was given up for an error counts as done: its own queue tells that.
    if (status == CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST) status = CL_SUCCESS;
    return status == CL_SUCCESS ? HADAL_OK
                                : contract::report(error, HADAL_DEVICE_FAILED,
                                                   failure("waiting for an event", status));
  });
}

}  // namespace

const hadal_events_table kEventsTable = {
    sizeof(hadal_events_table), kQueues, create, destroy, record, wait, nullptr, nullptr, nullptr};

}  // namespace hadal::opencl
