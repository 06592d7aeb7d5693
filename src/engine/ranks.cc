#include "engine/ranks.h"

#include <cstring>
#include <exception>

#include "engine/model_runner.h"

namespace hadal {
namespace {

template <typename T>
std::span<std::byte> bytes_of(std::vector<T>& values) {
  return std::as_writable_bytes(std::span(values));
}

Status send_order(Communicator& ranks, Order order) {
  return ranks.broadcast(std::as_writable_bytes(std::span(&order, 1)));
}

/// Opens a rank's part and follows until the end.
Status run_rank(const Checkpoint& checkpoint, const RunnerOptions& options) {
  HADAL_TRY(const std::unique_ptr<ModelRunner> runner, ModelRunner::open(checkpoint, options));
  HADAL_TRY(runner->load());
  return runner->follow();
}

}  // namespace

Status send_step(Communicator& ranks, int32_t pass, const StepInputs& inputs,
                 std::span<const StepInputs::Range> changed) {
  std::vector<ReceivedRange> ranges;
  std::vector<std::byte> data;
  for (const auto& [offset, bytes] : changed) {
    ranges.push_back({offset, bytes.size()});
    data.insert(data.end(), bytes.begin(), bytes.end());
  }
  HADAL_TRY(send_order(ranks, {.kind = Order::Kind::kStep,
                               .pass = pass,
                               .rows = inputs.rows,
                               .count = static_cast<int64_t>(ranges.size()),
                               .bytes = static_cast<int64_t>(data.size())}));
  if (ranges.empty()) return {};
  HADAL_TRY(ranks.broadcast(bytes_of(ranges)));
  return ranks.broadcast(data);
}

Status send_copies(Communicator& ranks, std::span<const BlockCopy> copies) {
  if (copies.empty()) return {};
  HADAL_TRY(send_order(
      ranks, {.kind = Order::Kind::kCopyBlocks, .count = static_cast<int64_t>(copies.size())}));
  std::vector<BlockCopy> sent(copies.begin(), copies.end());
  return ranks.broadcast(bytes_of(sent));
}

Status send_end(Communicator& ranks) { return send_order(ranks, {.kind = Order::Kind::kEnd}); }

Result<Order> receive_order(Communicator& ranks) {
  Order order;
  HADAL_TRY(ranks.broadcast(std::as_writable_bytes(std::span(&order, 1))));
  return order;
}

Result<ReceivedStep> receive_step(Communicator& ranks, const Order& order) {
  ReceivedStep step;
  if (order.count == 0) return step;
  step.ranges.resize(static_cast<size_t>(order.count));
  step.data.resize(static_cast<size_t>(order.bytes));
  HADAL_TRY(ranks.broadcast(bytes_of(step.ranges)));
  HADAL_TRY(ranks.broadcast(step.data));
  return step;
}

Result<std::vector<BlockCopy>> receive_copies(Communicator& ranks, const Order& order) {
  std::vector<BlockCopy> copies(static_cast<size_t>(order.count));
  HADAL_TRY(ranks.broadcast(bytes_of(copies)));
  return copies;
}

int32_t device_of_rank(int32_t first, int64_t rank, int64_t ranks, int32_t devices) {
  return first + ranks <= devices ? first + static_cast<int32_t>(rank) : first;
}

RankThreads::RankThreads(const Checkpoint& checkpoint, const RunnerOptions& options,
                         std::vector<std::unique_ptr<Communicator>> ranks, int32_t devices)
    : ranks_(std::move(ranks)) {
  RunnerOptions others = options;
  others.when_followed = {};
  others.choices = nullptr;
  for (const auto& rank : ranks_)
    threads_.emplace_back([&checkpoint, options = others, comm = rank.get(), devices] {
      RunnerOptions own = options;
      own.ranks = comm;
      own.device.index = device_of_rank(options.device.index, comm->rank(), comm->ranks(), devices);
      Status status;
      try {
        status = run_rank(checkpoint, own);
      } catch (const std::exception& e) {
        status = failed(std::string("internal error: ") + e.what());
      }
      if (!status) comm->abort(status.error().message);
    });
}

RankThreads::~RankThreads() {
  for (std::thread& thread : threads_) thread.join();
}

}  // namespace hadal
