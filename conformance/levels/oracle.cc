#include "levels/oracle.h"

#include <fmt/format.h>

#include "contract/operators.h"

namespace hadal::conformance {
namespace {

// Runs of a chip choose alike, or nearly so: as many ways of choosing are remembered.
constexpr size_t kRemembered = 8;
// Models that join where one alone has a mean that is too far, and how far their seeds are from it.
constexpr size_t kMore = 5;
constexpr uint64_t kSeeds = 1000;

/// The logits of both sequences, one after the other.
contract::LogitRows logits_of(const Trace& trace) {
  contract::LogitRows rows;
  for (const auto& sequence : trace.rows)
    for (const Answer& answer : sequence) rows.push_back(answer.logits);
  return rows;
}

}  // namespace

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
    for (Answer& a : answers) {
      if (!a.finite)
        trace.error = fmt::format("step {}: logits or log-probabilities are not finite", i);
      trace.rows[static_cast<size_t>(a.sequence)].push_back(std::move(a));
    }
  }
  trace.choices = model.choices();
  return trace;
}

const Device* RefTables::device(const Numerics& numerics) {
  const std::string name = contract::reference_table(numerics.kind, numerics.block);
  std::unique_ptr<Chip>& chip = chips_[name];
  if (!chip) {
    auto opened = std::make_unique<Chip>();
    if (const std::string why = opened->open("ref", {.kernels = name}); !why.empty()) {
      why_ = why;
      return nullptr;
    }
    opened->table.plane_bytes = nullptr;
    chip = std::move(opened);
  }
  return &chip->device(1);
}

Json to_json(const Verdict& v) {
  const contract::Distance& d = v.distance;
  return {{"kl", d.kl},           {"class_kl", d.class_kl}, {"part", d.part},
          {"sigma", d.sigma},     {"beyond", d.beyond},     {"logits", d.logits},
          {"sure", d.sure},       {"flips", d.flips},       {"positions", d.positions},
          {"choices", v.choices}, {"differ", v.differ},     {"models", v.models}};
}

Oracle::Oracle(Chip& ref, RefTables& tables, const TinyModel& model, const TinySpec& spec,
               Plan plan)
    : plan_(std::move(plan)), ref_(ref) {
  for (auto* twin : {&exact_, &classed_}) {
    *twin = std::make_unique<TinyModel>(ref, ref.device(1), spec, &model);
    (*twin)->force_tokens();
    if ((*twin)->ready()) continue;
    error_ = "ref cannot build the model: " + (*twin)->error();
    return;
  }
  // Memories and weights of ref may be used across its devices.
  std::vector<const Device*> devices;
  for (const Numerics& n : classed_->classes()) {
    devices.push_back(tables.device(n));
    if (!devices.back()) error_ = tables.why();
  }
  if (error_.empty() && !classed_->spread(std::move(devices)))
    error_ = "ref declines one of its tables";
}

const Oracle::Reference& Oracle::reference(const Choices& choices) {
  for (const Reference& known : known_)
    if (known.choices == choices) return known;
  if (known_.size() == kRemembered) known_.pop_front();
  Reference& made = known_.emplace_back();
  made.choices = choices;
  exact_->follow_choices(&choices);
  made.exact = follow(*exact_, plan_, RunMode::kOneByOne);
  made.of_exact = exact_->candidates();
  classed_->follow_choices(&choices);
  made.classed = follow(*classed_, plan_, RunMode::kOneByOne);
  made.of_classed = classed_->candidates();
  exact_->follow_choices(nullptr);
  classed_->follow_choices(nullptr);
  return made;
}

Verdict Oracle::judge(const Trace& found) {
  Verdict v;
  if (v.broken = found.error; !v.broken.empty()) return v;
  const Reference& ref = reference(found.choices);
  for (const Trace* trace : {&ref.exact, &ref.classed})
    if (!trace->error.empty()) {
      v.broken = "ref cannot follow the chip's choices: " + trace->error;
      return v;
    }
  for (size_t s = 0; s < 2; ++s)
    if (found.rows[s].size() != ref.exact.rows[s].size()) {
      v.broken = fmt::format("{} answers of sequence {}, expected {}", found.rows[s].size(), s,
                             ref.exact.rows[s].size());
      return v;
    }
  ref.of_exact.each(
      [&](size_t, size_t, size_t, const Candidates& c) { v.choices += !c.own.empty(); });
  v.broken = judge_choices(exact_->choosers(), found.choices, ref.of_exact, ref.of_classed,
                           ref_.device(1), v.differ);
  v.distance =
      contract::measure_distance(logits_of(ref.exact), logits_of(ref.classed), logits_of(found));
  if (v.broken.empty()) v.broken = v.distance.rows;
  return v;
}

void Verdict::join(const Verdict& other) {
  choices += other.choices;
  differ += other.differ;
  ++models;
  distance.join(other.distance);
  if (broken.empty()) broken = other.broken;
}

void MoreModels::widen(Verdict& verdict, const Plan& plan, RunMode mode, int32_t threads) {
  if (!verdict.broken.empty() || verdict.distance.mean.empty()) return;
  Verdict all = verdict;
  for (size_t i = 0; i < kMore; ++i) {
    TinySpec spec = spec_;
    spec.seed += kSeeds * (i + 1);
    TinyModel model(chip_, chip_.device(threads), spec);
    if (!model.ready()) return;
    model.force_tokens();
    if (oracles_.size() == i)
      oracles_.push_back(std::make_unique<Oracle>(ref_, tables_, model, spec, plan_));
    if (!oracles_[i]->error().empty()) return;
    Verdict other = oracles_[i]->judge(follow(model, plan, mode));
    if (!other.broken.empty())
      other.broken = fmt::format("the same model of seed {}: {}", spec.seed, other.broken);
    all.join(other);
    if (!all.broken.empty()) break;
  }
  verdict = std::move(all);
}

}  // namespace hadal::conformance
