#include "engine/ranks.h"

#include <algorithm>
#include <exception>

#include "checkpoint/digest.h"
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

/// Opens a rank's part of what rank 0 loads.
Result<std::unique_ptr<ModelRunner>> open_part(Communicator& ranks, const LoadOrder& load,
                                               const std::function<Result<RankModel>()>& open) {
  HADAL_TRY(const RankModel model, open());
  // Before anything is made of it: what only resembles rank 0's would fail somewhere, or nowhere.
  if (load.model != Digest{} && load.model != model_digest(*model.checkpoint))
    return failed("it has another model than rank 0: " + model.checkpoint->path().string());
  RunnerOptions options = *model.options;
  options.ranks = &ranks;
  options.context = load.context;
  options.cache_tokens = load.cache_tokens;
  options.max_tokens = load.max_tokens;
  options.max_sequences = load.max_sequences;
  options.max_logit_rows = load.max_logit_rows;
  options.tail_rows = load.tail_rows < 0 ? std::nullopt : std::optional(load.tail_rows);
  options.draft = load.draft != 0;
  return ModelRunner::open(*model.checkpoint, options);
}

/// From kLoad to kEnd.
Status run_part(Communicator& ranks, const std::function<Result<RankModel>()>& open) {
  LoadOrder load;
  HADAL_TRY(ranks.broadcast(std::as_writable_bytes(std::span(&load, 1))));
  const Result<std::unique_ptr<ModelRunner>> runner = open_part(ranks, load, open);
  Status status = runner ? (*runner)->load() : agree(ranks, runner.error());
  if (status) status = (*runner)->follow();
  // Said while the runner lives: its device leaves the sums of the others, who would tell of that.
  if (!status) ranks.abort(status.error().message);
  return status;
}

}  // namespace

Status send_load(Communicator& ranks, LoadOrder load) {
  HADAL_TRY(send_order(ranks, {.kind = Order::Kind::kLoad}));
  return ranks.broadcast(std::as_writable_bytes(std::span(&load, 1)));
}

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

Status send_leave(Communicator& ranks) {
  HADAL_TRY(send_order(ranks, {.kind = Order::Kind::kLeave}));
  return ranks.leave();
}

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

Status agree(Communicator& ranks, Status own) {
  std::vector<float> failing(static_cast<size_t>(ranks.ranks()));
  const auto here = failing.begin() + ranks.rank();
  *here = own ? 0 : 1;
  if (Status met = ranks.all_reduce(failing); !met) return own ? std::move(met) : std::move(own);
  const auto lowest = std::find(failing.begin(), failing.end(), 1.0F);
  if (lowest == failing.end() || lowest == here) return own;
  return ranks.barrier();  // which that rank does not reach
}

Status follow_rank_0(Communicator& ranks, const std::function<Result<RankModel>()>& open) {
  for (;;) {
    HADAL_TRY(const Order order, receive_order(ranks));
    if (order.kind == Order::Kind::kLeave) return ranks.leave();
    HADAL_TRY(run_part(ranks, open));
  }
}

int32_t device_of_rank(int32_t first, int64_t rank, int64_t ranks, int32_t devices) {
  return first + ranks <= devices ? first + static_cast<int32_t>(rank) : first;
}

RankThreads::RankThreads(const Checkpoint& checkpoint, const RunnerOptions& options,
                         std::vector<std::unique_ptr<Communicator>> ranks, int32_t devices)
    : ranks_(std::move(ranks)) {
  RunnerOptions others = options;
  others.choices = nullptr;
  for (const auto& rank : ranks_)
    threads_.emplace_back([&checkpoint, options = others, comm = rank.get(), devices] {
      RunnerOptions own = options;
      own.device.index = device_of_rank(options.device.index, comm->rank(), comm->ranks(), devices);
      Status status;
      try {
        status = follow_rank_0(*comm,
                               [&]() -> Result<RankModel> { return RankModel{&checkpoint, &own}; });
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
