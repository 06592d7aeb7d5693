// The level `models`: a tape as a model records it, over several steps: op_run against program,
// cuts of the prompt, neighbours, threads, no rows, the stop flag.
//
// On a chip that is row_invariant all these have the same bits. On another each of them, with the
// tokens given, is compared with ref: see oracle.h.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "families.h"
#include "levels/oracle.h"

namespace hadal::conformance {
namespace {

// Tokens after the prompts, where distances are measured.
constexpr int kForced = 14;

/// Two sequences with prompts of 23 and 9 tokens, then four tokens more each.
const Plan kWhole = {{{0, 23}, {1, 9}}, {{0, 1}, {1, 1}}, {{1, 1}, {0, 1}},
                     {{0, 1}},          {{0, 1}, {1, 1}}, {{1, 1}}};
const Plan kCut = {{{0, 7}}, {{1, 4}, {0, 15}}, {{0, 1}, {1, 5}}, {{1, 1}, {0, 1}},
                   {{0, 1}}, {{1, 1}, {0, 1}},  {{0, 1}, {1, 1}}, {{1, 1}}};
const Plan kAlone = {{{0, 23}}, {{0, 1}}, {{0, 1}}, {{0, 1}}, {{0, 1}},
                     {{1, 9}},  {{1, 1}}, {{1, 1}}, {{1, 1}}, {{1, 1}}};

/// The same prompts in the same ways, then kForced tokens each.
struct ForcedPlans {
  Plan whole = {{{0, 23}, {1, 9}}};
  Plan cut = {{{0, 7}}, {{1, 4}, {0, 15}}, {{0, 1}, {1, 5}}};
  Plan alone = {{{0, 23}}};
  ForcedPlans() {
    for (int i = 0; i < kForced; ++i) whole.push_back({{0, 1}, {1, 1}});
    for (int i = 0; i < kForced; ++i) cut.push_back({{1, 1}, {0, 1}});
    for (int i = 0; i < kForced; ++i) alone.push_back({{0, 1}});
    alone.push_back({{1, 9}});
    for (int i = 0; i < kForced; ++i) alone.push_back({{1, 1}});
  }
};

std::string difference(const Trace& a, const Trace& b) {
  if (!b.error.empty()) return b.error;
  for (size_t s = 0; s < 2; ++s)
    for (size_t i = 0; i < a.rows[s].size(); ++i)
      if (i >= b.rows[s].size() || a.rows[s][i].bits != b.rows[s][i].bits)
        return fmt::format(
            "sequence {}: other bits in logits or sample after {} token(s) of the answer", s, i);
  return {};
}

/// The checks on one type of weight.
class TypeCheck {
 public:
  TypeCheck(Chip& chip, Chip& ref, RefTables& tables, const std::string& family, uint32_t dtype,
            const Options& options, Report& report)
      : name_(model_line(family)),
        chip_(chip),
        ref_(ref),
        tables_(tables),
        spec_{family, dtype, options.seed},
        threads_(threads_of(family, options.quick)),
        report_(report),
        type_(dtype_name(static_cast<DType>(dtype))),
        more_(chip, ref, tables, spec_, plans_.whole) {
    if (!invariant()) {
      whole_ = plans_.whole;
      cut_ = plans_.cut;
      alone_ = plans_.alone;
    }
  }

  /// False: there is no use in another type.
  bool run() {
    for (const int32_t threads : threads_) {
      report_.phase(name_, fmt::format("{}, {} thread(s): the model is built", type_, threads));
      TinyModel model(chip_, chip_.device(threads), spec_);
      Line& line = report_.line(name_);
      if (model.declined()) {
        ++line.cases;
        ++line.declined;
        if (line.reason.empty()) line.reason = model.error();
        return true;
      }
      if (!report_.check(name_, model.ready(),
                         fmt::format("{}: the model cannot be built: {}", type_, model.error())))
        return false;
      for (const Numerics& n : model.classes()) line.add_class(n);
      if (threads == 2 && !measure(model)) return false;
      if (!invariant()) model.force_tokens();
      run_modes(model, threads);
      line.seconds += model.seconds();
      if (report_.enough()) return false;
    }
    return true;
  }

 private:
  /// Every number of threads once; the other families add operators, not threads.
  static std::vector<int32_t> threads_of(const std::string& family, bool quick) {
    if (family == "llama") return {2, 1, 3};
    return quick ? std::vector<int32_t>{2} : std::vector<int32_t>{2, 3};
  }

  [[nodiscard]] bool invariant() const { return chip_.info.row_invariant != 0; }

  /// How far the chip may be from ref, and, if it rounds, how far it is.
  bool measure(const TinyModel& model) {
    oracle_.emplace(ref_, tables_, model, spec_, plans_.whole);
    if (!report_.check(name_, oracle_->error().empty(), type_ + ": " + oracle_->error()))
      return false;
    TinyModel forced(chip_, chip_.device(2), spec_);
    forced.force_tokens();
    if (!report_.begin(name_, type_ + ", the whole model")) return true;
    const Trace trace = follow(forced, plans_.whole, RunMode::kWholeTape);
    Verdict verdict = oracle_->judge(trace);
    more_.widen(verdict, plans_.whole, RunMode::kWholeTape, 2);
    const std::string& why = verdict.why();
    report_.check(name_, why.empty(), type_ + ", the whole model: " + why);
    Line& line = report_.line(name_);
    if (why.empty()) line.worst = std::max(line.worst, verdict.distance.part);
    if (verdict.distance.class_kl > 0) line.extra[spec_.family + " " + type_] = to_json(verdict);
    return !report_.enough();
  }

  void run_modes(TinyModel& model, int32_t threads) {
    std::vector<std::pair<RunMode, std::string>> modes = {
        {RunMode::kWholeTape, "op_run of the whole tape"},
        {RunMode::kOneByOne, "op_run of one operator at a time"}};
    if (chip_.table.program) modes.emplace_back(RunMode::kProgram, "program");
    for (const auto& [mode, name] : modes) {
      const std::string how = fmt::format("{}, {}, {} thread(s)", type_, name, threads);
      if (!report_.begin(name_, how)) continue;
      const Trace whole = follow(model, whole_, mode);
      if (!report_.check(name_, whole.error.empty(), how + ": " + whole.error)) continue;
      if (expected_.rows[0].empty()) expected_ = whole;
      const Way way{mode, threads};
      compare(whole, whole_, way, how + ": against op_run with 2 threads");
      compare(follow(model, cut_, mode), cut_, way, how + ": prompts cut into chunks");
      compare(follow(model, alone_, mode), alone_, way, how + ": each sequence alone");
      if (threads == 2) check_steps(model, mode, how);
      if (report_.enough()) return;
    }
  }

  /// How a trace was made.
  struct Way {
    RunMode mode;
    int32_t threads;
  };
  void compare(const Trace& found, const Plan& plan, Way way, const std::string& what) {
    std::string why;
    if (invariant()) {
      why = difference(expected_, found);
    } else {
      Verdict verdict = oracle_->judge(found);
      more_.widen(verdict, plan, way.mode, way.threads);
      why = verdict.why();
    }
    report_.check(name_, why.empty(), what + ": " + why);
  }

  // What must be the same in one way of running: a step without rows changes nothing, a stopped
  // step does no lasting harm.
  void check_steps(TinyModel& model, RunMode mode, const std::string& how) {
    model.reset();
    std::vector<Answer> answers;
    const auto planes = [&] {
      return model.reads_planes() ? model.read_planes() : std::vector<Bytes>();
    };
    const hadal_status first = model.step({{0, 20}}, mode, nullptr, answers);
    const std::vector<Bytes> before = planes();
    const hadal_status empty = model.step({}, mode, nullptr, answers);
    report_.check(
        name_, first == HADAL_OK && empty == HADAL_OK && before == planes(),
        fmt::format("{}: a step without rows fails, or changes a plane ({})", how, model.error()));
    Plan with_empty = whole_;
    with_empty.insert(with_empty.begin() + 1, std::vector<Chunk>());
    compare(follow(model, with_empty, mode), with_empty, {mode, 2},
            how + ": with a step without rows in between");
    model.reset();
    const volatile int32_t stop = 1;
    const hadal_status stopped = model.step(kWhole[0], mode, &stop, answers);
    report_.check(
        name_, stopped == HADAL_STOPPED || stopped == HADAL_OK,
        fmt::format("{}: with the stop flag set the status is {}", how, static_cast<int>(stopped)));
    compare(follow(model, whole_, mode), whole_, {mode, 2}, how + ": after a stopped step");
  }

  const std::string name_;
  Chip& chip_;
  Chip& ref_;
  RefTables& tables_;
  const TinySpec spec_;
  const std::vector<int32_t> threads_;
  Report& report_;
  std::string type_;
  const ForcedPlans plans_;
  Plan whole_ = kWhole, cut_ = kCut, alone_ = kAlone;
  MoreModels more_;
  Trace expected_;
  std::optional<Oracle> oracle_;
};

}  // namespace

void level_models(Chip& chip, Chip& ref, const std::string& family, const Options& options,
                  Report& report) {
  std::vector<uint32_t> types = {HADAL_BF16};
  if (!options.quick) types.push_back(HADAL_Q8_0);
  if (!options.quick && family == "llama") types.push_back(HADAL_F32);
  RefTables tables;
  for (const uint32_t dtype : types)
    if (!TypeCheck(chip, ref, tables, family, dtype, options, report).run()) return;
}

}  // namespace hadal::conformance
