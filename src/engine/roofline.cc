#include "engine/roofline.h"

#include <algorithm>

#include "contract/operators.h"
#include "contract/roofline.h"

namespace hadal {
namespace {

/// Tokens a second by the slower of reading all bytes and doing all arithmetic.
double rate(const StepCost& cost, const Device::Peaks& peaks, int64_t tokens, bool quantised) {
  const contract::Peaks measured = {.bytes_per_second = peaks.read_bytes_per_second,
                                    .flops_per_second = peaks.fp32_flops_per_second,
                                    .int8_per_second = peaks.int8_ops_per_second};
  const std::string numerics =
      contract::numerics_name(quantised ? HADAL_NUMERICS_BLOCK8 : HADAL_NUMERICS_EXACT, 32);
  if (measured.bytes_per_second <= 0 || contract::arithmetic_peak(measured, numerics) <= 0)
    return 0;
  const contract::Roof roof = contract::roof_of({cost.flops, cost.bytes}, measured, numerics);
  return roof.seconds > 0 ? static_cast<double>(tokens) / roof.seconds : 0;
}

}  // namespace

StepCost decode_cost(const ModelRunner& runner, double depth) {
  return runner.step_cost({1, 1, 1, 1, 1}, depth);
}

StepCost prompt_cost(const ModelRunner& runner, double depth) {
  constexpr int64_t n = Roofline::kPrompt;
  return runner.step_cost({1, n, 1, 1, n}, depth + n / 2.0);
}

Result<double> measure_copies(const Device& device) {
  const std::vector<std::byte> bytes(std::min(contract::kCopyBytes, device.info().memory_free / 8),
                                     std::byte{1});
  HADAL_TRY(const DeviceMemory from, device.allocate(bytes.size()));
  HADAL_TRY(const DeviceMemory to, device.allocate(bytes.size()));
  HADAL_TRY(device.copy_in(from, 0, bytes));
  HADAL_TRY(device.sync());
  Status status;
  const double rate = contract::copy_rate(bytes.size(), [&] {
    status = device.copy(to, 0, from, 0, bytes.size());
    if (status) status = device.sync();
    return static_cast<bool>(status);
  });
  if (!status) return status.error();
  return rate;
}

Result<std::optional<Roofline>> measure_roofline(ModelRunner& runner, double depth) {
  if (!runner.on_one_device() || !runner.device().has_profile()) return std::optional<Roofline>();
  Roofline r;
  HADAL_TRY(r.peaks, runner.device().measure());
  const bool quantised =
      std::any_of(runner.weights().begin(), runner.weights().end(), [](const Weight& w) {
        return w.source.rows > 1 && !is_plain(static_cast<DType>(w.tensor.dtype));
      });
  r.decode = rate(decode_cost(runner, depth), r.peaks, 1, quantised);
  r.prompt = rate(prompt_cost(runner, depth), r.peaks, Roofline::kPrompt, quantised);
  return std::optional(r);
}

}  // namespace hadal
