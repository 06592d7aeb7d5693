// The table `comm` over the ranks of one process: each is a device with its queue, whose worker
// waits for the workers of the others.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "contract/report.h"
#include "events.h"
#include "hadal/chip_parts.h"
#include "memory.h"
#include "queue.h"

namespace hadal::apart {

/// Ranks that exchange what they have: everything else is made of that.
class Group {
 public:
  Group(uint64_t number, int32_t ranks) : number_(number), parts_(static_cast<size_t>(ranks)) {}
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  [[nodiscard]] uint64_t ranks() const { return parts_.size(); }
  /// Shows all ranks what each brings; body(parts, in the order of ranks) is called on every one,
  /// and none goes on before all have read. False if a rank is gone.
  template <typename Body>
  bool exchange(int32_t rank, const std::byte* own, const Body& body) {
    std::unique_lock lock(mutex_);
    parts_[static_cast<size_t>(rank)] = own;
    // Under the lock nobody leaves before the second meeting, and then takes its part along.
    if (!meet(lock) || over_) return false;
    body(parts_);
    return meet(lock);
  }
  void send(int32_t from, int32_t to, std::vector<std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    sent_[{from, to}].push_back(std::move(bytes));
    changed_.notify_all();
  }
  /// What `from` sent first and nobody has received. False if a rank is gone.
  bool receive(int32_t from, int32_t to, std::vector<std::byte>* bytes) {
    std::unique_lock lock(mutex_);
    auto& waiting = sent_[{from, to}];
    changed_.wait(lock, [&] { return !waiting.empty() || over_; });
    if (waiting.empty()) return false;
    *bytes = std::move(waiting.front());
    waiting.pop_front();
    return true;
  }
  /// Returns when all ranks have come, false when one did not within a while or is gone.
  bool begin() {
    std::unique_lock lock(mutex_);
    const bool all = meet(lock, std::chrono::seconds(10));
    over_ = over_ || !all;
    return all;
  }
  void end() {
    const std::lock_guard lock(mutex_);
    over_ = true;
    changed_.notify_all();
  }

 private:
  bool meet(std::unique_lock<std::mutex>& lock,
            std::chrono::seconds limit = std::chrono::hours(1)) {
    if (over_) return false;
    const uint64_t meeting = meetings_;
    if (++here_ == parts_.size()) {
      here_ = 0;
      ++meetings_;
      changed_.notify_all();
    }
    changed_.wait_for(lock, limit, [&] { return meetings_ != meeting || over_; });
    if (meetings_ != meeting) return true;
    --here_;
    return false;
  }

  uint64_t number_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<const std::byte*> parts_;
  std::map<std::pair<int32_t, int32_t>, std::deque<std::vector<std::byte>>> sent_;  // from, to
  uint64_t here_ = 0, meetings_ = 0;
  bool over_ = false;
};

namespace {

using contract::guarded;
using contract::report;

constexpr const char* kGone = "another rank of the communicator is gone";

/// What hadal_comm_id holds: who made it, and which it is.
struct Id {
  int64_t process = 0;
  uint64_t number = 0;
};

std::mutex groups_mutex;
std::map<uint64_t, std::weak_ptr<Group>> groups;  // by the number of their id

Comm* comm_of(hadal_comm* comm) { return reinterpret_cast<Comm*>(comm); }

hadal_status create_id(hadal_device*, hadal_comm_id* out, hadal_error*) {
  static std::atomic<uint64_t> next{1};
  const Id id = {.process = ::getpid(), .number = next++};
  std::memcpy(out->bytes, &id, sizeof id);
  return HADAL_OK;
}

hadal_status init(hadal_device* device, const hadal_comm_id* given, int32_t rank, int32_t ranks,
                  hadal_comm** out, hadal_error* error) {
  *out = nullptr;
  return guarded(error, [&] {
    Id id;
    std::memcpy(&id, given->bytes, sizeof id);
    if (rank < 0 || rank >= ranks)
      return report(error, HADAL_INVALID,
                    "comm: there is no rank " + std::to_string(rank) + " of " +
                        std::to_string(ranks) + ", they are counted from 0");
    if (id.process != ::getpid())
      return report(error, HADAL_UNSUPPORTED,
                    "comm: the id is of another process, ranks must be threads of one");
    auto comm = std::make_shared<Comm>();
    comm->rank = rank;
    {
      const std::lock_guard lock(groups_mutex);
      comm->group = groups[id.number].lock();
      if (!comm->group) groups[id.number] = comm->group = std::make_shared<Group>(id.number, ranks);
    }
    if (!comm->group->begin())
      return report(error, HADAL_UNSUPPORTED,
                    "comm: not all of the " + std::to_string(ranks) + " ranks came");
    device_of(device)->comm = comm;
    *out = reinterpret_cast<hadal_comm*>(new Comm(*comm));
    return HADAL_OK;
  });
}

void destroy(hadal_comm* comm) {
  leave(*comm_of(comm));
  delete comm_of(comm);
}

struct Part {
  hadal_memory* memory;
  uint64_t offset, bytes;
  const std::byte* begin() const { return memory_of(memory)->data + offset; }
};

hadal_status check(const char* what, const Part& part, hadal_error* error) {
  return hadal_check_range(what, memory_of(part.memory)->bytes, part.offset, part.bytes, error);
}

/// Queues body(parts of all ranks, own rank, where the result goes), when every rank has come.
template <typename Body>
hadal_status queued(const char* what, hadal_comm* handle, hadal_queue* queue, const Part& to,
                    const Part& from, hadal_error* error, const Body& body) {
  if (const hadal_status s = check(what, to, error); s != HADAL_OK) return s;
  if (const hadal_status s = check(what, from, error); s != HADAL_OK) return s;
  return guarded(error, [&] {
    queue_of(queue)->push([comm = *comm_of(handle), out = memory_of(to.memory)->data + to.offset,
                           in = from.begin(), bytes = to.bytes, body](hadal_error* why) {
      std::vector<std::byte> result(bytes);  // others read `in`, which may be `out`
      const bool all = comm.group->exchange(comm.rank, in, [&](const auto& parts) {
        body(parts, static_cast<uint64_t>(comm.rank), result.data());
      });
      if (!all) return report(why, HADAL_DEVICE_FAILED, kGone);
      std::copy(result.begin(), result.end(), out);
      return HADAL_OK;
    });
    return HADAL_OK;
  });
}

void sum(const std::vector<const std::byte*>& parts, uint64_t first, uint64_t count, float* out) {
  for (uint64_t i = 0; i < count; ++i) {
    out[i] = reinterpret_cast<const float*>(parts[0])[first + i];
    for (size_t rank = 1; rank < parts.size(); ++rank)
      out[i] += reinterpret_cast<const float*>(parts[rank])[first + i];
  }
}

hadal_status queued_all_reduce(hadal_comm* comm, hadal_queue* queue, hadal_memory* memory,
                               uint64_t offset, uint64_t count, hadal_error* error) {
  const Part part = {memory, offset, count * sizeof(float)};
  return queued("all_reduce", comm, queue, part, part, error,
                [count](const auto& parts, uint64_t, std::byte* out) {
                  sum(parts, 0, count, reinterpret_cast<float*>(out));
                });
}

hadal_status all_gather(hadal_comm* comm, hadal_queue* queue, hadal_memory* to, uint64_t to_offset,
                        hadal_memory* from, uint64_t from_offset, uint64_t count,
                        hadal_error* error) {
  const uint64_t bytes = count * sizeof(float), ranks = comm_of(comm)->group->ranks();
  return queued("all_gather", comm, queue, {to, to_offset, ranks * bytes},
                {from, from_offset, bytes}, error,
                [bytes](const auto& parts, uint64_t, std::byte* out) {
                  for (const std::byte* part : parts) out = std::copy_n(part, bytes, out);
                });
}

hadal_status reduce_scatter(hadal_comm* comm, hadal_queue* queue, hadal_memory* to,
                            uint64_t to_offset, hadal_memory* from, uint64_t from_offset,
                            uint64_t count, hadal_error* error) {
  const uint64_t bytes = count * sizeof(float), ranks = comm_of(comm)->group->ranks();
  return queued("reduce_scatter", comm, queue, {to, to_offset, bytes},
                {from, from_offset, ranks * bytes}, error,
                [count](const auto& parts, uint64_t rank, std::byte* out) {
                  sum(parts, rank * count, count, reinterpret_cast<float*>(out));
                });
}

hadal_status all_to_all(hadal_comm* comm, hadal_queue* queue, hadal_memory* to, uint64_t to_offset,
                        hadal_memory* from, uint64_t from_offset, uint64_t count,
                        hadal_error* error) {
  const uint64_t bytes = count * sizeof(float), ranks = comm_of(comm)->group->ranks();
  return queued("all_to_all", comm, queue, {to, to_offset, ranks * bytes},
                {from, from_offset, ranks * bytes}, error,
                [bytes](const auto& parts, uint64_t rank, std::byte* out) {
                  for (const std::byte* part : parts)
                    out = std::copy_n(part + rank * bytes, bytes, out);
                });
}

hadal_status check_rank(const char* what, const Comm& comm, int32_t rank, hadal_error* error) {
  if (rank >= 0 && static_cast<uint64_t>(rank) < comm.group->ranks()) return HADAL_OK;
  return report(error, HADAL_INVALID,
                std::string(what) + ": there is no rank " + std::to_string(rank) + " of " +
                    std::to_string(comm.group->ranks()));
}

hadal_status send(hadal_comm* handle, hadal_queue* queue, int32_t to_rank, hadal_memory* memory,
                  uint64_t offset, uint64_t bytes, hadal_error* error) {
  const Part from = {memory, offset, bytes};
  if (const hadal_status s = check("send", from, error); s != HADAL_OK) return s;
  if (const hadal_status s = check_rank("send", *comm_of(handle), to_rank, error); s != HADAL_OK)
    return s;
  return guarded(error, [&] {
    queue_of(queue)->push([comm = *comm_of(handle), to_rank, from](hadal_error*) {
      comm.group->send(comm.rank, to_rank, {from.begin(), from.begin() + from.bytes});
      return HADAL_OK;
    });
    return HADAL_OK;
  });
}

hadal_status receive(hadal_comm* handle, hadal_queue* queue, int32_t from_rank,
                     hadal_memory* memory, uint64_t offset, uint64_t bytes, hadal_error* error) {
  const Part to = {memory, offset, bytes};
  if (const hadal_status s = check("recv", to, error); s != HADAL_OK) return s;
  if (const hadal_status s = check_rank("recv", *comm_of(handle), from_rank, error); s != HADAL_OK)
    return s;
  return guarded(error, [&] {
    queue_of(queue)->push([comm = *comm_of(handle), from_rank, bytes,
                           out = memory_of(memory)->data + offset](hadal_error* why) {
      std::vector<std::byte> got;
      if (!comm.group->receive(from_rank, comm.rank, &got))
        return report(why, HADAL_DEVICE_FAILED, kGone);
      if (got.size() != bytes)
        return report(why, HADAL_INVALID,
                      "recv: " + std::to_string(bytes) + " bytes are expected, rank " +
                          std::to_string(from_rank) + " sent " + std::to_string(got.size()));
      std::copy(got.begin(), got.end(), out);
      return HADAL_OK;
    });
    return HADAL_OK;
  });
}

}  // namespace

Group::~Group() {
  const std::lock_guard lock(groups_mutex);
  groups.erase(number_);
}

hadal_status all_reduce(const Comm& comm, float* values, uint64_t count, hadal_error* error) {
  std::vector<float> sums(count);
  const bool all =
      comm.group->exchange(comm.rank, reinterpret_cast<const std::byte*>(values),
                           [&](const auto& parts) { sum(parts, 0, count, sums.data()); });
  if (!all) return report(error, HADAL_DEVICE_FAILED, kGone);
  std::copy(sums.begin(), sums.end(), values);
  return HADAL_OK;
}

void leave(const Comm& comm) { comm.group->end(); }

const hadal_comm_table kComm = {
    .size = sizeof kComm,
    .create_id = create_id,
    .init = init,
    .destroy = destroy,
    .all_reduce = queued_all_reduce,
    .all_gather = all_gather,
    .reduce_scatter = reduce_scatter,
    .all_to_all = all_to_all,
    .send = send,
    .recv = receive,
};

}  // namespace hadal::apart
