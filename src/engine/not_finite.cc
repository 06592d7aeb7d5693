#include "engine/not_finite.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "contract/operators.h"
#include "engine/model_runner.h"
#include "engine/working_memory.h"

namespace hadal {
namespace {

/// "layer 3" from "model.layers.3.mlp.up_proj.weight"; the name itself where there is no layer.
std::string place_of(const std::string& name) {
  constexpr std::string_view kLayers = "layers.";
  const size_t at = name.find(kLayers);
  if (at == std::string::npos) return name;
  const size_t first = at + kLayers.size();
  return "layer " + name.substr(first, name.find('.', first) - first);
}

}  // namespace

NotFiniteSink::NotFiniteSink(const Device& device, const hadal_step& step, uint32_t planes,
                             const DeviceMemory& scratch, const DeviceMemory& outputs,
                             const std::deque<Weight>& weights)
    : device_(device),
      step_(step),
      scratch_(scratch),
      outputs_(outputs),
      run_(device, step, planes) {
  for (const Weight& w : weights)
    if (w.table.empty()) names_[w.tensor.weight] = w.source.name;  // tables belong to no place
}

Result<bool> NotFiniteSink::is_finite(const Tensor& out) const {
  int64_t extents[HADAL_MAX_RANK];
  std::copy(std::begin(out.extents), std::end(out.extents), extents);
  extents[0] *= step_.rows[out.row_dim];
  int64_t count = 1;
  for (uint32_t d = 0; d < out.rank; ++d) count *= extents[d];
  if (count <= 0) return true;
  std::vector<std::byte> data(reach(out, step_.rows[out.row_dim]));
  HADAL_TRY(
      device_.copy_out(data, out.space == HADAL_SPACE_SCRATCH ? scratch_ : outputs_, out.offset));
  HADAL_TRY(device_.sync());
  for (int64_t i = 0; i < count; ++i) {
    int64_t left = i, at = 0;
    for (int d = static_cast<int>(out.rank) - 1; d >= 0; --d) {
      at += left % extents[d] * out.strides[d];
      left /= extents[d];
    }
    float value = 0;
    std::memcpy(&value, data.data() + at, sizeof value);
    if (!std::isfinite(value)) return false;
  }
  return true;
}

void NotFiniteSink::op(const hadal_op& op, std::span<const Tensor> tensors) {
  if (!found_.empty() || !status_) return;
  for (const Tensor& t : tensors)
    if (t.space == HADAL_SPACE_WEIGHT)
      if (const auto name = names_.find(t.weight); name != names_.end())
        place_ = place_of(name->second);
  run_.op(op, tensors);
  status_ = run_.status();
  if (op.id == HADAL_OP_COMPRESS) return;  // rows that end no entry are not written
  for (size_t i = 0; i < tensors.size() && status_; ++i) {
    const Tensor& t = tensors[i];
    if (!is_working_memory(t) || t.dtype != HADAL_F32 ||
        !is_written(contract::operand_role(op.id, static_cast<uint32_t>(i))))
      continue;
    const Result<bool> finite = is_finite(t);
    if (!finite) {
      status_ = finite.error();
    } else if (!*finite) {
      found_ = place_ + " (" + contract::op_name(op.id) + ")";
      reads_cache_ = std::any_of(tensors.begin(), tensors.end(), [](const Tensor& operand) {
        return operand.space == HADAL_SPACE_PLANE;
      });
    }
  }
}

Error ModelRunner::explain_not_finite(const StepInputs& inputs) {
  const std::string what = "the model's numbers are not finite any more";
  bool may_be_cache = true;  // as long as nobody knows better
  const auto explained = [&]() -> Result<std::string> {
    // Operators of several devices or ranks run together only.
    if (places_.size() > 1 || options_.ranks) return std::string();
    Place& place = places_[0];
    if (!place.workspace) {
      HADAL_TRY(place.workspace, device().allocate(place.workspace_bytes));
    }
    const hadal_step step = make_step(place, inputs.rows);
    NotFiniteSink sink(device(), step, step_planes_->count(), place.scratch, place.outputs,
                       model_->weights());
    const Pass& pass = main_[inputs.masked ? 1 : 0];
    forward(pass, sink, nullptr);
    HADAL_TRY(sink.status());
    if (!sink.found().empty()) may_be_cache = sink.reads_cache();
    return sink.found();
  }();
  Error error = failed(what);
  if (explained && !explained->empty()) error.message += ": they first come out of " + *explained;
  if (may_be_cache && options_.kv_cache_dtype == HADAL_F16) {
    error.message += "; f16, the type of the cache, ends at 65504, bf16 holds larger numbers";
    error.setting = Setting::kCacheBf16;
  } else {
    error.message +=
        "; the weights may hold such numbers themselves (inspect --deep), or the chip computes "
        "wrongly (chip trace)";
  }
  return error;
}

}  // namespace hadal
