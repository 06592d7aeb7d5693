// hadal bench --profile: each operator of a prompt's step and of decoding, beside the roofline of
// its chip, and the same steps as a whole.
//
// The model is loaded twice: to run its operators one by one, and to run as its user runs it.
#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>

#include "bench.h"
#include "contract/operators.h"
#include "contract/roofline.h"
#include "engine/operator_times.h"
#include "engine/roofline.h"
#include "hadal/version.h"

namespace hadal::app {
namespace {

using Json = nlohmann::ordered_json;
using contract::Roof;

/// One operator of a kind of step, or all of them: a step's calls together. Seconds.
struct Row {
  int64_t calls = 0;
  double first = 0, warm = 0;
  std::optional<double> launch = 0.0;  ///< none: the chip refuses one of them without rows
  contract::OpCost cost;
  Roof roof;

  Row& operator+=(const Row& other) {
    calls += other.calls;
    first += other.first;
    warm += other.warm;
    launch = launch && other.launch ? std::optional(*launch + *other.launch) : std::nullopt;
    cost.flops += other.cost.flops;
    cost.bytes += other.cost.bytes;
    roof += other.roof;
    return *this;
  }
  [[nodiscard]] std::optional<double> percent_without_launch() const {
    if (!launch) return std::nullopt;
    const std::optional<double> own = contract::without_launch(warm, *launch);
    return own ? std::optional(contract::percent_of(roof, *own)) : std::nullopt;
  }
};

/// What was measured of one kind of step.
struct Table {
  std::string test;
  int64_t depth = 0, batch = 1;
  int64_t tokens = 0;  ///< a step
  int64_t steps = 0, rows = 0;
  std::vector<OperatorTimes::Call> calls;
  double whole = 0;  ///< seconds of a step as its user runs it

  /// Seconds of a step operator by operator: unlike the sum of the calls' medians, with whatever
  /// disturbed it, as a whole step has.
  [[nodiscard]] double by_operator() const {
    std::vector<double> sums(static_cast<size_t>(steps) - 1);
    for (const OperatorTimes::Call& call : calls)
      for (size_t i = 0; i < sums.size(); ++i) sums[i] += call.warm[i];
    return median(sums);
  }
  /// Operators by their time, the longest first.
  [[nodiscard]] std::vector<std::pair<std::string, Row>> operators(
      const contract::Peaks& peaks) const {
    std::map<std::string, Row> by_name;
    for (const OperatorTimes::Call& call : calls) {
      const auto count = static_cast<double>(steps);
      const contract::OpCost cost = {call.cost.flops / count, call.cost.bytes / count};
      by_name[contract::op_name(call.id)] +=
          {.calls = 1,
           .first = call.first,
           .warm = median(call.warm),
           .launch = call.launches ? std::optional(median(call.launch)) : std::nullopt,
           .cost = cost,
           .roof = contract::roof_of(cost, peaks, call.numerics)};
    }
    std::vector<std::pair<std::string, Row>> sorted(by_name.begin(), by_name.end());
    std::sort(sorted.begin(), sorted.end(),
              [](const auto& a, const auto& b) { return a.second.warm > b.second.warm; });
    return sorted;
  }
};

struct MeasuredPeaks {
  contract::Peaks peaks;
  std::string from;
};

/// The chip's own, else copies and the largest product of the tables, as the kit measures them.
Result<MeasuredPeaks> measure_peaks(const Device& device, const std::vector<Table>& tables) {
  MeasuredPeaks found;
  if (device.has_profile()) {
    HADAL_TRY(const Device::Peaks own, device.measure());
    if (own.read_bytes_per_second > 0 && own.fp32_flops_per_second > 0) {
      found.peaks = {.bytes_per_second = own.read_bytes_per_second,
                     .flops_per_second = own.fp32_flops_per_second,
                     .int8_per_second = own.int8_ops_per_second,
                     .bf16_per_second = device.info().bf16_flops_per_second};
      found.from = "the chip's profile";
      return found;
    }
  }
  HADAL_TRY(found.peaks.bytes_per_second, measure_copies(device));
  for (const Table& table : tables)
    for (const OperatorTimes::Call& call : table.calls) {
      const double warm = median(call.warm);
      if (call.id == HADAL_OP_MATMUL && warm > 0)
        found.peaks.flops_per_second =
            std::max(found.peaks.flops_per_second,
                     call.cost.flops / static_cast<double>(table.steps) / warm);
    }
  found.from = "copies and the largest product of these tables";
  return found;
}

/// Operator by operator.
class Tables {
 public:
  Tables(Engine& engine, const BenchOptions& o, Output& out)
      : engine_(engine), o_(o), out_(out), bench_(engine, o, out) {}

  Status prompt(int64_t tokens) {
    OperatorTimes times(engine_.runner());
    engine_.runner().run_by(&times);
    for (int64_t s = 0; s <= o_.samples; ++s) {
      HADAL_TRY(bench_.prompt(tokens, true));
      HADAL_TRY(out_.flush());
    }
    add({.test = "pp" + std::to_string(tokens), .tokens = tokens}, times);
    return {};
  }

  Status decode(int64_t depth, int64_t batch) {
    HADAL_TRY(const std::vector<SeqId> ids, bench_.begin_decoding(depth, batch, o_.decode + 3));
    OperatorTimes times(engine_.runner());
    engine_.runner().run_by(&times);
    for (int64_t t = 0; t <= o_.decode; ++t) {
      HADAL_TRY(engine_.step());
      HADAL_TRY(bench_.all_run(batch));
      HADAL_TRY(out_.flush());
    }
    for (const SeqId id : ids) engine_.cancel(id);
    add({.test = "tg" + std::to_string(o_.decode), .depth = depth, .batch = batch, .tokens = batch},
        times);
    return {};
  }
  std::vector<Table> tables;

 private:
  void add(Table table, const OperatorTimes& times) {
    engine_.runner().run_by(nullptr);
    table.steps = times.steps();
    table.rows = times.rows();
    table.calls = times.calls();
    tables.push_back(std::move(table));
  }
  Engine& engine_;
  const BenchOptions& o_;
  Output& out_;
  Bench bench_;
};

/// The steps of a table as a whole.
Status measure_whole(Engine& engine, const BenchOptions& o, Output& out, Table& table) {
  using Clock = std::chrono::steady_clock;
  Bench bench(engine, o, out);
  if (table.test.starts_with("pp")) {
    HADAL_TRY(const Measured m, bench.prefill(table.tokens));
    table.whole = median(m.seconds);
    return {};
  }
  HADAL_TRY(const std::vector<SeqId> ids,
            bench.begin_decoding(table.depth, table.batch, o.decode + 3));
  std::vector<double> seconds;
  for (int64_t t = 0; t <= o.decode; ++t) {
    const auto start = Clock::now();
    HADAL_TRY(engine.step());
    if (t > 0) seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    HADAL_TRY(bench.all_run(table.batch));
    HADAL_TRY(out.flush());
  }
  for (const SeqId id : ids) engine.cancel(id);
  table.whole = median(seconds);
  return {};
}

Json to_json(const Row& row) {
  const std::optional<double> percent = row.percent_without_launch();
  return {{"calls", row.calls},
          {"first_us", row.first * 1e6},
          {"warm_us", row.warm * 1e6},
          {"launch_us", row.launch ? Json(*row.launch * 1e6) : Json()},
          {"bytes", row.cost.bytes},
          {"flops", row.cost.flops},
          {"bound", row.roof.bound()},
          {"percent", contract::percent_of(row.roof, row.warm)},
          {"percent_without_launch", percent ? Json(*percent) : Json()}};
}

void print_row(Output& out, const std::string& name, const Row& row) {
  const auto shown = [](std::optional<double> value, int digits) {
    return value ? fmt::format("{:.{}f}", *value, digits) : std::string("-");
  };
  const std::optional<double> launch = row.launch ? std::optional(*row.launch * 1e6) : std::nullopt;
  out.print("{:<18} {:>6} {:>10.1f} {:>10.1f} {:>10} {:>10.3f} {:>10.4f}  {:<10} {:>9.1f} {:>9}\n",
            name, row.calls, row.first * 1e6, row.warm * 1e6, shown(launch, 1),
            row.cost.bytes / 1e6, row.cost.flops / 1e9, row.roof.bound(),
            contract::percent_of(row.roof, row.warm), shown(row.percent_without_launch(), 1));
}

/// What is said of the chip.
struct Where {
  const BenchOptions& o;
  std::string chip, kernels;
  int32_t threads = 0;
  MeasuredPeaks measured;
};

void print_peaks(Output& out, const Where& where) {
  const contract::Peaks& peaks = where.measured.peaks;
  if (where.o.json) {
    const Json line = {{"test", "peaks"},
                       {"from", where.measured.from},
                       {"read_gb_s", peaks.bytes_per_second / 1e9},
                       {"int8_gop_s", peaks.int8_per_second / 1e9},
                       {"bf16_gflop_s", peaks.bf16_per_second / 1e9},
                       {"fp32_gflop_s", peaks.flops_per_second / 1e9}};
    return out.print("{}\n", line.dump());
  }
  const auto other = [](const char* name, double rate) {
    return rate > 0 ? fmt::format(", {:.1f} in {}", rate / 1e9, name) : std::string();
  };
  out.print("{} on chip {}, kernels {}: {:.1f} GB/s, {:.1f} GFLOP/s in fp32{}{} ({})\n",
            where.o.model.path, where.chip, where.kernels, peaks.bytes_per_second / 1e9,
            peaks.flops_per_second / 1e9, other("int8", peaks.int8_per_second),
            other("bf16", peaks.bf16_per_second), where.measured.from);
}

void print_table(Output& out, const Where& where, const Table& table) {
  const auto operators = table.operators(where.measured.peaks);
  Row all;
  for (const auto& [name, row] : operators) all += row;
  const auto tokens = static_cast<double>(table.tokens);
  const double rate = tokens / table.whole, by_operator = tokens / table.by_operator(),
               allowed = tokens / all.roof.seconds,
               percent = contract::percent_of(all.roof, table.whole);
  if (where.o.json) {
    Json line = {{"test", table.test},   {"model", where.o.model.path}, {"version", HADAL_VERSION},
                 {"chip", where.chip},   {"kernels", where.kernels},    {"threads", where.threads},
                 {"depth", table.depth}, {"batch", table.batch},        {"rows", table.rows},
                 {"steps", table.steps}};
    for (const auto& [name, row] : operators) line["operators"][name] = to_json(row);
    line["all"] = to_json(all);
    line["tok_s"] = rate;
    line["tok_s_by_operator"] = by_operator;
    line["tok_s_roofline"] = allowed;
    line["percent_of_roofline"] = percent;
    return out.print("{}\n", line.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  out.print("\n{}, depth {}, batch {}: {} steps of {} rows, sums of a step\n", table.test,
            table.depth, table.batch, table.steps, table.rows);
  out.print("{:<18} {:>6} {:>10} {:>10} {:>10} {:>10} {:>10}  {:<10} {:>9} {:>9}\n", "", "calls",
            "first us", "warm us", "launch us", "MB", "GFLOP", "bound by", "% of roof",
            "no launch");
  for (const auto& [name, row] : operators) print_row(out, name, row);
  print_row(out, "all", all);
  out.print(
      "the whole step: {:.1f} tokens/s, the roofline allows {:.1f} ({:.1f} %); operator by "
      "operator {:.1f}\n",
      rate, allowed, percent, by_operator);
}

}  // namespace

Status check_profile(const BenchOptions& o, const BenchPlan& plan) {
  if (o.no_peaks)
    return usage_error("hadal bench --profile compares with the peaks: leave --no-peaks out");
  if (plan.prefills.empty() && (o.decode == 0 || plan.depths.empty() || plan.batches.empty()))
    return usage_error("hadal bench --profile: neither a prompt nor decoding is asked for");
  const int64_t most = RunnerOptions().max_tokens;
  for (const int64_t n : plan.prefills)
    if (n > most)
      return usage_error("hadal bench --profile: a step of a prompt has at most " +
                         std::to_string(most) + " tokens, --prefill asks for " + std::to_string(n));
  return {};
}

Status profile(const BenchOptions& o, const BenchPlan& plan, const Checkpoint& checkpoint,
               Output& out) {
  HADAL_TRY(o.model.on_one_device("hadal bench --profile"));
  RunnerOptions options = o.model.runner(checkpoint, plan.context);
  options.max_sequences = options.max_logit_rows = plan.batch;
  RunnerOptions eager = options;
  eager.eager = true;
  std::vector<Table> tables;
  Where where{.o = o};
  {
    HADAL_TRY(const std::unique_ptr<Engine> engine,
              Engine::load(checkpoint, eager, progress_bar()));
    Tables by_operator(*engine, o, out);
    for (const int64_t n : plan.prefills) HADAL_TRY(by_operator.prompt(n));
    for (const int64_t depth : plan.depths)
      for (const int64_t batch : plan.batches)
        if (o.decode > 0) HADAL_TRY(by_operator.decode(depth, batch));
    tables = std::move(by_operator.tables);
    const Device& device = engine->runner().device();
    HADAL_TRY(where.measured, measure_peaks(device, tables));
    where.chip = device.chip_name();
    where.kernels = device.info().kernels;
    where.threads = device.info().threads;
  }
  HADAL_TRY(const std::unique_ptr<Engine> engine,
            Engine::load(checkpoint, options, progress_bar()));
  for (Table& table : tables) HADAL_TRY(measure_whole(*engine, o, out, table));
  print_peaks(out, where);
  for (const Table& table : tables) print_table(out, where, table);
  return out.flush();
}

}  // namespace hadal::app
