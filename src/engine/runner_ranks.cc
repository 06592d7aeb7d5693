// The part of ModelRunner that is one rank of several.
#include "engine/automatic_place.h"
#include "engine/model_runner.h"

namespace hadal {

ModelRunner::~ModelRunner() {
  if (!leads()) return;
  // Whoever still follows is told; an error means that the run is over already.
  if (loaded_ && send_end(*options_.ranks))
    (void)options_.ranks->leave();
  else if (own_rank_)
    own_rank_->abort("the model was not loaded");
}

Status ModelRunner::checked(Status status) const {
  if (!status && leads()) {
    comm_.reset();
    options_.ranks->abort(status.error().message);
  }
  return status;
}

/// Devices that can sum among themselves do so, if all ranks have such.
Status ModelRunner::join_devices() {
  if (!options_.ranks) return {};
  Communicator& ranks = *options_.ranks;
  const auto all = [&](bool here) -> Result<bool> {
    float count = here ? 1 : 0;
    HADAL_TRY(ranks.all_reduce({&count, 1}));
    return static_cast<int64_t>(count) == ranks.ranks();
  };
  HADAL_TRY(const bool able, all(places_.size() == 1 && device().has_comm()));
  if (!able) return {};
  hadal_comm_id id{};
  if (ranks.rank() == 0) {
    HADAL_TRY(id, device().make_comm_id());
  }
  HADAL_TRY(ranks.broadcast(std::as_writable_bytes(std::span(id.bytes))));
  Result<DeviceComm> joined = device().join(id, ranks.rank(), ranks.ranks());
  HADAL_TRY(const bool together, all(joined.has_value()));
  if (together)
    comm_ = *std::move(joined);
  else
    no_comm_ = joined ? "another rank's device did not join" : joined.error().message;
  return {};
}

/// All ranks are loaded, and for the same steps: what rank 0 orders is valid everywhere.
Status ModelRunner::meet_ranks() {
  if (!options_.ranks) return {};
  std::vector<int64_t> limits = blocks_;
  limits.insert(limits.end(), {context_, static_cast<int64_t>(layout_->input_bytes)});
  const auto as_rank_0 = [&](std::vector<int64_t> numbers) -> Result<bool> {
    const std::vector<int64_t> own = numbers;
    HADAL_TRY(options_.ranks->broadcast(std::as_writable_bytes(std::span(numbers))));
    return numbers == own;
  };
  const std::string rank = "rank " + std::to_string(options_.ranks->rank());
  HADAL_TRY(const bool same_caches, as_rank_0(limits));
  if (!same_caches)
    return failed(rank +
                  " has memory for other caches than rank 0; say how large they shall be by --ctx "
                  "and --cache-tokens");
  HADAL_TRY(const bool same_number, as_rank_0({static_cast<int64_t>(places_.size())}));
  if (!same_number) return failed(rank + " has another number of devices than rank 0");
  for (const Place& place : places_) {
    const auto& buckets = place.device->info().row_buckets;
    HADAL_TRY(const bool same_buckets, as_rank_0({std::begin(buckets), std::end(buckets)}));
    if (!same_buckets)
      return failed(rank + ": " + place.name +
                    " asks for other counts of rows than the device of rank 0");
  }
  return options_.ranks->barrier();
}

Status ModelRunner::check_ranks() const {
  if (!options_.ranks && options_.rank_threads == 1) return {};
  if (options_.ranks && options_.rank_threads > 1)
    return usage_error(
        "--ranks divides a model over this process, mpirun over several: one of them");
  if (options_.place == kAutomaticPlace)
    return usage_error(
        "--place auto measures one device; of a model in parts say by --place what is where");
  if (!options_.adapters.empty() || options_.more_adapters)
    return usage_error("adapters are not built for a model in parts; leave --lora out");
  if (options_.eager) return usage_error("a model in parts cannot be run operator by operator");
  return {};
}

std::vector<ModelRunner::Pass*> ModelRunner::all_passes() {
  std::vector<Pass*> passes;
  for (Pass& pass : main_) passes.push_back(&pass);
  for (auto& forms : draft_)
    for (Pass& pass : forms) passes.push_back(&pass);
  return passes;
}

Status ModelRunner::follow() {
  Communicator& ranks = *options_.ranks;
  std::vector<std::byte> inputs(layout_->input_bytes);
  const std::vector<Pass*> passes = all_passes();
  for (;;) {
    HADAL_TRY(const Order order, receive_order(ranks));
    if (order.kind == Order::Kind::kEnd) return ranks.leave();
    if (order.kind == Order::Kind::kCopyBlocks) {
      HADAL_TRY(const std::vector<BlockCopy> copies, receive_copies(ranks, order));
      HADAL_TRY(copy_blocks_here(copies));
      continue;
    }
    HADAL_TRY(const ReceivedStep step, receive_step(ranks, order));
    const std::byte* from = step.data.data();
    for (const ReceivedRange& range : step.ranges) {
      std::copy_n(from, range.bytes, inputs.data() + range.offset);
      from += range.bytes;
      for (const Place& place : places_)
        HADAL_TRY(place.device->copy_in(place.inputs, range.offset,
                                        std::span(inputs).subspan(range.offset, range.bytes)));
    }
    HADAL_TRY(
        run_on_places(*passes[static_cast<size_t>(order.pass)], order.rows, inputs.data(), false));
    HADAL_TRY(sync());
  }
}

}  // namespace hadal
