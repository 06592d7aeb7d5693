// The part of ModelRunner that is one rank of several.
#include "checkpoint/digest.h"
#include "engine/automatic_place.h"
#include "engine/model_runner.h"
#include "hadal/version.h"

namespace hadal {

ModelRunner::~ModelRunner() {
  if (!leads() || !loaded_) return;
  if (!send_end(*options_.ranks)) return;  // the run is over already
  comm_.reset();                           // as the others do now
  if (own_rank_) (void)send_leave(*own_rank_);
}

Status ModelRunner::checked(Status status) const {
  if (status || !leads()) return status;
  ranks_over_ = true;
  options_.ranks->abort(status.error().message);
  comm_.reset();
  // Where another rank ended the run before, that is why, and not what this one met.
  Error error = std::move(status).error();
  if (Status ended = options_.ranks->barrier(); !ended) error.message = ended.error().message;
  return error;
}

Status ModelRunner::agree_with_ranks(Status own) const {
  return options_.ranks ? agree(*options_.ranks, std::move(own)) : std::move(own);
}

/// The others open what this rank opened.
Status ModelRunner::call_ranks() {
  if (own_rank_) {
    RunnerOptions others = options_;
    others.rank_threads = 1;
    rank_threads_ = std::make_unique<RankThreads>(
        *checkpoint_, others, std::exchange(other_ranks_, {}), device().device_count());
  }
  return send_load(*options_.ranks, {.model = own_rank_ ? Digest{} : model_digest(*checkpoint_),
                                     .context = context_,
                                     .cache_tokens = options_.cache_tokens,
                                     .max_tokens = options_.max_tokens,
                                     .max_sequences = options_.max_sequences,
                                     .max_logit_rows = options_.max_logit_rows,
                                     .tail_rows = options_.tail_rows.value_or(-1),
                                     .draft = options_.draft ? 1 : 0});
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

/// What must be the same on all ranks, so that what rank 0 orders is valid everywhere and means the
/// same bits: names and values.
std::vector<ModelRunner::Fact> ModelRunner::facts_of_rank() const {
  const auto of_places = [&](auto&& text) {
    std::string all;
    for (const Place& place : places_) all += (all.empty() ? "" : ", ") + text(*place.device);
    return all;
  };
  const auto chip = [](const Device& device) { return std::string(device.chip_name()); };
  std::string options, blocks;
  for (const auto& [name, value] : options_.device.chip_options)
    options += (options.empty() ? "" : ", ") + name + "=" + value;
  for (const int64_t count : blocks_) blocks += std::to_string(count) + " ";
  return {{"version of Hadal", HADAL_VERSION},
          {"chip", of_places(chip)},
          {"kernel table", of_places([](const Device& device) {
             return device.info().kernels + (" " + std::to_string(device.info().kernels_version));
           })},
          {"list of row counts", of_places([](const Device& device) {
             std::string rows;
             for (const uint32_t n : device.info().row_buckets)
               if (n > 0) rows += (rows.empty() ? "" : " ") + std::to_string(n);
             return rows;
           })},
          {"set of --chip-option", options},
          {"--numerics", options_.device.exact ? "exact" : "fastest"},
          {"--weights", options_.weights == WeightMode::kF32 ? "f32" : "native"},
          {"--kv-cache-dtype", std::string(dtype_name(options_.kv_cache_dtype))},
          {"--place", placement_->text([&](size_t place) { return chip(*places_[place].device); })},
          {"--fallback", options_.fallback ? "allow" : "forbid"},
          {"layout of caches and steps", blocks + std::to_string(layout_->input_bytes)}};
}

/// Refuses a rank that would compute something else than rank 0.
Status ModelRunner::compare_ranks() const {
  if (!options_.ranks) return {};
  const std::vector<Fact> own = facts_of_rank();
  std::string sent;
  for (const Fact& fact : own) sent += fact.value + '\0';
  uint64_t size = sent.size();
  HADAL_TRY(options_.ranks->broadcast(std::as_writable_bytes(std::span(&size, 1))));
  sent.resize(size);
  HADAL_TRY(options_.ranks->broadcast(std::as_writable_bytes(std::span(sent))));
  Status same;
  size_t at = 0;
  for (const Fact& fact : own) {
    const size_t end = std::min(sent.find('\0', at), sent.size());
    const std::string first = sent.substr(at, end - at);
    at = std::min(end + 1, sent.size());
    if (first == fact.value) continue;
    const auto shown = [](const std::string& text) { return text.empty() ? "none" : text; };
    same = failed("it has another " + std::string(fact.name) +
                  " than rank 0: " + shown(fact.value) + "; rank 0 has " + shown(first));
    break;
  }
  return agree(*options_.ranks, std::move(same));
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
    if (order.kind == Order::Kind::kEnd) return {};
    if (order.kind == Order::Kind::kCopyBlocks) {
      HADAL_TRY(const std::vector<BlockCopy> copies, receive_copies(ranks, order));
      HADAL_TRY(copy_blocks_here(copies));
      continue;
    }
    if (order.kind != Order::Kind::kStep) return failed("rank 0 orders what a loaded model is not");
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
