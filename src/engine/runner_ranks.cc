// The part of ModelRunner that is one rank of several.
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

/// All ranks are loaded, and for the same steps: what rank 0 orders is valid everywhere.
Status ModelRunner::meet_ranks() {
  if (!options_.ranks) return {};
  std::vector<int64_t> limits = blocks_;
  limits.insert(limits.end(), {context_, static_cast<int64_t>(layout_->input_bytes)});
  const std::vector<int64_t> own = limits;
  HADAL_TRY(options_.ranks->broadcast(std::as_writable_bytes(std::span(limits))));
  if (limits == own) return options_.ranks->barrier();
  return failed(
      "rank " + std::to_string(options_.ranks->rank()) +
      " has memory for other caches than rank 0; say how large they shall be by --ctx and "
      "--cache-tokens");
}

Status ModelRunner::check_ranks() const {
  if (!options_.ranks && options_.rank_threads == 1) return {};
  if (options_.ranks && options_.rank_threads > 1)
    return usage_error(
        "--ranks divides a model over this process, mpirun over several: one of them");
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
