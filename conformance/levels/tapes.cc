// A tape as a model records it, over several steps: op_run against program, cuts of the prompt,
// neighbours, threads, no rows, the stop flag.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "levels/tiny_model.h"

namespace hadal::conformance {
namespace {

constexpr const char* kName = "tapes";

using Plan = std::vector<std::vector<Chunk>>;  // steps of (sequence, rows)

/// Two sequences with prompts of 23 and 9 tokens, then four tokens more each.
const Plan kWhole = {{{0, 23}, {1, 9}}, {{0, 1}, {1, 1}}, {{1, 1}, {0, 1}},
                     {{0, 1}},          {{0, 1}, {1, 1}}, {{1, 1}}};
const Plan kCut = {{{0, 7}}, {{1, 4}, {0, 15}}, {{0, 1}, {1, 5}}, {{1, 1}, {0, 1}},
                   {{0, 1}}, {{1, 1}, {0, 1}},  {{0, 1}, {1, 1}}, {{1, 1}}};
const Plan kAlone = {{{0, 23}}, {{0, 1}}, {{0, 1}}, {{0, 1}}, {{0, 1}},
                     {{1, 9}},  {{1, 1}}, {{1, 1}}, {{1, 1}}, {{1, 1}}};

/// Runs a plan; the logits and tokens after each position of each sequence, as text-free bytes, or
/// an error.
struct Trace {
  std::string error;
  std::array<std::vector<Bytes>, 2> rows;  // a sequence's answers in order
};

Trace follow(TinyModel& model, const Plan& plan, RunMode mode) {
  Trace trace;
  model.reset();
  for (size_t i = 0; i < plan.size(); ++i) {
    std::vector<Answer> answers;
    const hadal_status status = model.step(plan[i], mode, nullptr, answers);
    if (status != HADAL_OK) {
      trace.error =
          fmt::format("step {}: status {}: {}", i, static_cast<int>(status), model.error());
      return trace;
    }
    for (const Answer& a : answers)
      if (!a.finite)
        trace.error = fmt::format("step {}: logits or log-probabilities are not finite", i);
    for (const Answer& a : answers) trace.rows[static_cast<size_t>(a.sequence)].push_back(a.bits);
  }
  return trace;
}

std::string difference(const Trace& a, const Trace& b) {
  if (!b.error.empty()) return b.error;
  for (size_t s = 0; s < 2; ++s)
    for (size_t i = 0; i < a.rows[s].size(); ++i)
      if (i >= b.rows[s].size() || a.rows[s][i] != b.rows[s][i])
        return fmt::format(
            "sequence {}: other bits in logits or sample after {} token(s) of the answer", s, i);
  return {};
}

// What must be the same in one way of running: a step without rows changes nothing, a stopped step
// does no lasting harm.
void check_steps(TinyModel& model, RunMode mode, const std::string& how, Report& report) {
  model.reset();
  std::vector<Answer> answers;
  const hadal_status first = model.step({{0, 20}}, mode, nullptr, answers);
  const std::vector<Bytes> planes = model.read_planes();
  const hadal_status empty = model.step({}, mode, nullptr, answers);
  report.check(
      kName, first == HADAL_OK && empty == HADAL_OK && planes == model.read_planes(),
      fmt::format("{}: a step without rows fails, or changes a plane ({})", how, model.error()));
  const Trace before = follow(model, kWhole, mode);
  model.reset();
  const volatile int32_t stop = 1;
  const hadal_status stopped = model.step(kWhole[0], mode, &stop, answers);
  report.check(
      kName, stopped == HADAL_STOPPED || stopped == HADAL_OK,
      fmt::format("{}: with the stop flag set the status is {}", how, static_cast<int>(stopped)));
  const Trace after = follow(model, kWhole, mode);
  report.check(kName, before.error.empty() && difference(before, after).empty(),
               fmt::format("{}: after a stopped step: {}", how,
                           before.error.empty() ? difference(before, after) : before.error));
}

}  // namespace

void check_tapes(Chip& chip, const Options& options, Report& report) {
  Line& line = report.line(kName);
  const std::vector<uint32_t> types =
      options.quick ? std::vector<uint32_t>{HADAL_BF16}
                    : std::vector<uint32_t>{HADAL_F32, HADAL_BF16, HADAL_Q8_0};
  for (const uint32_t dtype : types) {
    const std::string type(dtype_name(static_cast<DType>(dtype)));
    Trace expected;
    for (const int32_t threads : {2, 1, 3}) {
      TinyModel model(chip, chip.device(threads), dtype, options.seed);
      if (model.declined()) {
        ++line.declined;
        line.reason = model.error();
        break;
      }
      if (!report.check(kName, model.ready(),
                        fmt::format("{}: the model cannot be built: {}", type, model.error())))
        return;
      std::vector<std::pair<RunMode, std::string>> modes = {
          {RunMode::kWholeTape, "op_run of the whole tape"},
          {RunMode::kOneByOne, "op_run of one operator at a time"}};
      if (chip.table.program) modes.emplace_back(RunMode::kProgram, "program");
      for (const auto& [mode, name] : modes) {
        const std::string how = fmt::format("{}, {}, {} thread(s)", type, name, threads);
        const Trace whole = follow(model, kWhole, mode);
        if (!report.check(kName, whole.error.empty(), how + ": " + whole.error)) continue;
        const bool same_device = threads == 2;
        if (expected.rows[0].empty()) expected = whole;
        if (chip.info.row_invariant || same_device)
          report.check(kName, difference(expected, whole).empty(),
                       fmt::format("{}: against op_run with 2 threads: {}", how,
                                   difference(expected, whole)));
        if (chip.info.row_invariant) {
          const std::string cut = difference(expected, follow(model, kCut, mode));
          report.check(kName, cut.empty(),
                       fmt::format("{}: prompts cut into chunks: {}", how, cut));
          const std::string alone = difference(expected, follow(model, kAlone, mode));
          report.check(kName, alone.empty(),
                       fmt::format("{}: each sequence alone: {}", how, alone));
        }
        if (threads == 2) check_steps(model, mode, how, report);
        if (report.enough()) return;
      }
      line.seconds += model.seconds();
    }
  }
}

}  // namespace hadal::conformance
