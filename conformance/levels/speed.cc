#include "speed.h"

#include <fmt/format.h>

#include <algorithm>

#include "contract/cost.h"
#include "contract/operators.h"
#include "contract/roofline.h"

namespace hadal::conformance {
namespace {

constexpr const char* kName = "speed";
constexpr double kSeconds = 0.4;  // of warm calls of one shape
constexpr int kSamples = 25;

double median(std::vector<double> v) {
  if (v.empty()) return 0;
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

/// The first device with as many threads as the chip chooses.
class Fast {
 public:
  Fast(Chip& chip, const Options& options) : table_(chip.table) {
    good_ = options.wishes().open(table_, 0, &device.device, &error) == HADAL_OK &&
            table_.queue_create(device.device, &device.queue, &error) == HADAL_OK;
    device.chip = &table_;
    device.placement = chip.device(1).placement;
  }
  Fast(const Fast&) = delete;
  Fast& operator=(const Fast&) = delete;
  ~Fast() {
    if (device.queue) table_.queue_destroy(device.queue);
    if (device.device) table_.device_close(device.device);
  }
  [[nodiscard]] bool good() const { return good_; }
  Device device;
  hadal_error error = fresh_error();

 private:
  hadal_chip& table_;
  bool good_ = false;
};

/// Bytes a second of copies within the device.
double copy_rate(const Device& d) {
  constexpr uint64_t kBytes = contract::kCopyBytes;
  hadal_chip& t = *d.chip;
  hadal_memory *from = nullptr, *to = nullptr;
  double rate = 0;
  if (t.mem_alloc(d.device, kBytes, &from, nullptr) == HADAL_OK &&
      t.mem_alloc(d.device, kBytes, &to, nullptr) == HADAL_OK &&
      t.fill(d.queue, from, 0, kBytes, 1, nullptr) == HADAL_OK &&
      t.queue_sync(d.queue, nullptr) == HADAL_OK)
    rate = contract::copy_rate(contract::kCopyBytes, [&] {
      return t.copy(d.queue, to, 0, from, 0, kBytes, nullptr) == HADAL_OK &&
             t.queue_sync(d.queue, nullptr) == HADAL_OK;
    });
  if (from) t.mem_free(from);
  if (to) t.mem_free(to);
  return rate;
}

contract::OpCost cost_of(const SpeedCase& s, const Timing& timing) {
  std::array<int64_t, HADAL_DIM_COUNT> rows{};
  std::copy(s.c.rows.begin(), s.c.rows.end(), rows.begin());
  return contract::op_cost(timing.op,
                           std::span(timing.tensors).first(contract::operand_count(timing.op.id)),
                           rows, s.context);
}

/// The type of the matrices, "" where there is none.
std::string weights_of(const Case& c) {
  for (const Operand& o : c.operands)
    if (o.present() && o.weight && o.weight->desc.rows > 1)
      return std::string(dtype_name(static_cast<DType>(o.dtype)));
  return {};
}

/// Runs one shape; an empty object if the chip declines it.
Json measure(SpeedCase s, const Device& device, Report& report) {
  if (!adapt(s.c, device).empty()) return Json::object();
  const Timing timing = time_case(s.c, lay_out(s.c, device.placement), device, kSeconds, kSamples);
  if (timing.declined) return Json::object();
  if (!timing.why.empty()) {
    report.note(kName, s.shape + ": " + timing.why);
    return Json::object();
  }
  const contract::OpCost cost = cost_of(s, timing);
  return {{"shape", s.shape},
          {"weights", weights_of(s.c)},
          {"class", contract::numerics_name(timing.numerics.kind, timing.numerics.block)},
          {"first_us", timing.first * 1e6},
          {"warm_us", median(timing.warm) * 1e6},
          {"launch_us", median(timing.launch) * 1e6},
          {"samples", timing.warm.size()},
          {"bytes", cost.bytes},
          {"flops", cost.flops}};
}

/// The chip's own peaks, or what the kit can tell: copies, and the largest product.
Json measure_peaks(Chip& chip, const Device& device, const Options& options, Report& report) {
  if (const hadal_profile_table* profile = chip.table.profile) {
    double read = 0, int8 = 0, fp32 = 0;
    hadal_error error = fresh_error();
    if (profile->measure(device.device, &read, &int8, &fp32, &error) == HADAL_OK && read > 0 &&
        fp32 > 0)
      return {{"from", "the chip's profile"},
              {"bytes_per_second", read},
              {"flops_per_second", fp32},
              {"int8_per_second", int8},
              {"bf16_per_second", chip.info.bf16_flops_per_second}};
    report.note(kName, fmt::format("profile: {}", error.text));
  }
  double best = 0;
  for (const SpeedCase& s : speed_cases(HADAL_OP_MATMUL, options.seed))
    if (const Json m = measure(s, device, report); !m.empty() && m["warm_us"] > 0)
      best = std::max(best, m["flops"].get<double>() / m["warm_us"].get<double>() * 1e6);
  return {{"from", "copies and the largest product, measured by the kit"},
          {"bytes_per_second", copy_rate(device)},
          {"flops_per_second", best}};
}

contract::Peaks peaks_of(const Json& peaks) {
  return {.bytes_per_second = peaks.value("bytes_per_second", 0.0),
          .flops_per_second = peaks.value("flops_per_second", 0.0),
          .int8_per_second = peaks.value("int8_per_second", 0.0),
          .bf16_per_second = peaks.value("bf16_per_second", 0.0)};
}

}  // namespace

void level_speed(Chip& chip, const std::string& part, const Options& options, Report& report) {
  if (!report.begin(kName, part)) return;
  Fast fast(chip, options);
  if (!fast.good()) return report.note(kName, fmt::format("no device: {}", fast.error.text));
  if (part == kPeaks) {
    Json peaks = measure_peaks(chip, fast.device, options, report);
    report.line(kName).extra[kPeaks] = std::move(peaks);
    return;
  }
  for (uint32_t id = 1; id < 64; ++id) {
    if (contract::operand_count(id) == 0 || part != contract::op_name(id)) continue;
    Json all = Json::array();
    for (const SpeedCase& s : speed_cases(id, options.seed)) {
      report.phase(kName, part + " " + s.shape);
      ++report.line(kName).cases;
      if (Json m = measure(s, fast.device, report); !m.empty()) all.push_back(std::move(m));
    }
    if (!all.empty()) report.line(kName).extra[part] = std::move(all);
  }
}

void rate_speed(const Json& peaks, Json& operators) {
  const contract::Peaks measured = peaks_of(peaks);
  for (auto& [name, all] : operators.items())
    for (Json& m : all) {
      const contract::OpCost cost = {m.value("flops", 0.0), m.value("bytes", 0.0)};
      const contract::Roof roof =
          contract::roof_of(cost, measured, m.value("class", std::string()));
      const double warm = m.value("warm_us", 0.0) * 1e-6;
      m["bound"] = roof.bound();
      m["percent"] = contract::percent_of(roof, warm);
      if (const auto own = contract::without_launch(warm, m.value("launch_us", 0.0) * 1e-6))
        m["percent_without_launch"] = contract::percent_of(roof, *own);
    }
}

}  // namespace hadal::conformance
