// The part of level `queues` about the optional table of events: a second queue waits for the
// first.
#include <fmt/format.h>

#include <cstring>

#include "report.h"

namespace hadal::conformance {
namespace {

constexpr uint64_t kBytes = uint64_t{4} << 20;

/// Two devices of a chip, or two openings of one, copy from each other on their queues.
void check_peers(const Device& source, const Device& target, Report& report) {
  hadal_chip& t = *source.chip;
  const hadal_events_table& events = *t.events;
  hadal_error error = fresh_error();
  hadal_event *event = nullptr, *unused = nullptr;
  hadal_memory *from = nullptr, *to = nullptr;
  bool good = events.create(source.device, &event, &error) == HADAL_OK &&
              events.create(source.device, &unused, &error) == HADAL_OK &&
              t.mem_alloc(source.device, kBytes, &from, &error) == HADAL_OK &&
              t.mem_alloc(target.device, kBytes, &to, &error) == HADAL_OK;
  // An event that was never recorded does not hold anybody up.
  good = good && events.wait(unused, target.queue, &error) == HADAL_OK;
  for (const uint8_t value : {uint8_t{0x5a}, uint8_t{0xa5}}) {
    Bytes found(kBytes, std::byte{0});
    good = good && t.fill(source.queue, from, 0, kBytes, value, &error) == HADAL_OK &&
           events.record(event, source.queue, &error) == HADAL_OK &&
           events.wait(event, target.queue, &error) == HADAL_OK;
    if (good && events.peer_copy)
      good = events.peer_copy(target.queue, to, 0, from, 0, kBytes, &error) == HADAL_OK &&
             t.copy_out(target.queue, found.data(), to, 0, kBytes, &error) == HADAL_OK;
    good = good && t.queue_sync(target.queue, &error) == HADAL_OK;
    report.check("queues", good && (!events.peer_copy || found == Bytes(kBytes, std::byte{value})),
                 fmt::format("events: what another device copies behind a wait is not what stood "
                             "before the record {}",
                             error.text));
    t.queue_sync(source.queue, nullptr);
  }
  for (hadal_event* each : {event, unused})
    if (each) events.destroy(each);
  for (hadal_memory* m : {from, to})
    if (m) t.mem_free(m);
}

}  // namespace

void check_events(const Device& device, const Device& other, Report& report) {
  constexpr const char* kName = "queues";
  hadal_chip& t = *device.chip;
  if ((t.abi & 0xffffu) < 1 || !t.events) return;
  const hadal_events_table& events = *t.events;
  if (!report.check(kName,
                    events.queues >= 2 && events.create && events.destroy && events.record &&
                        events.wait && !events.pinned_alloc == !events.pinned_free,
                    "the table of events has holes, or allows fewer than 2 queues"))
    return;
  hadal_error error = fresh_error();
  hadal_queue* second = nullptr;
  hadal_event* event = nullptr;
  hadal_memory *from = nullptr, *to = nullptr;
  const bool made = t.queue_create(device.device, &second, &error) == HADAL_OK &&
                    events.create(device.device, &event, &error) == HADAL_OK &&
                    t.mem_alloc(device.device, kBytes, &from, &error) == HADAL_OK &&
                    t.mem_alloc(device.device, kBytes, &to, &error) == HADAL_OK;
  report.check(kName, made, fmt::format("a second queue, an event: {}", error.text));
  // The first queue writes twice, the second reads what the first wrote before the record.
  bool good = made;
  for (const uint8_t value : {uint8_t{0x5a}, uint8_t{0xa5}}) {
    Bytes found(kBytes, std::byte{0});
    good = good && t.fill(device.queue, from, 0, kBytes, 0, &error) == HADAL_OK &&
           t.queue_sync(device.queue, &error) == HADAL_OK &&
           t.fill(device.queue, from, 0, kBytes, value, &error) == HADAL_OK &&
           t.copy(device.queue, to, 0, from, 0, kBytes, &error) == HADAL_OK &&
           events.record(event, device.queue, &error) == HADAL_OK &&
           events.wait(event, second, &error) == HADAL_OK &&
           t.copy_out(second, found.data(), to, 0, kBytes, &error) == HADAL_OK &&
           t.queue_sync(second, &error) == HADAL_OK;
    report.check(kName, good && found == Bytes(kBytes, std::byte{value}),
                 fmt::format("events: what stands behind a wait on a second queue does not see "
                             "what stood before the record on the first {}",
                             error.text));
    t.queue_sync(device.queue, nullptr);
  }
  if (event) events.destroy(event);
  for (hadal_memory* m : {from, to})
    if (m) t.mem_free(m);
  if (second) t.queue_destroy(second);
  check_peers(device, other, report);
  void* pinned = nullptr;
  if (events.pinned_alloc &&
      report.check(
          kName, events.pinned_alloc(device.device, kBytes, &pinned, &error) == HADAL_OK && pinned,
          fmt::format("pinned memory: {}", error.text))) {
    std::memset(pinned, 1, kBytes);
    events.pinned_free(device.device, pinned);
  }
}

}  // namespace hadal::conformance
