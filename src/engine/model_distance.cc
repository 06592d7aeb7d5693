#include "engine/model_distance.h"

#include <cmath>

namespace hadal {
namespace {

/// One run, and what chose in it.
struct Made {
  contract::LogitRows rows;
  ChoiceLog choices;
};

/// All runs of one model.
class Runs {
 public:
  Runs(const Checkpoint& checkpoint, const DistanceRun& run) : checkpoint_(checkpoint), run_(run) {}

  /// As its user runs it; noted: cut behind what chooses.
  Result<Made> chip(bool noted) {
    const std::string what = noted ? run_.where + ", its choices noted" : run_.where;
    Made made;
    RunnerOptions options = run_.options;
    if (noted) options.choices = &made.choices;
    HADAL_TRY(const std::unique_ptr<Engine> engine, load(options, what));
    notes = engine->runner().notes();
    place = engine->runner().options().place;
    HADAL_TRY(made.rows, logits(*engine, what));
    return made;
  }

  /// `ref`, operator by operator: exact, or in the chip's classes and forms; with the choices of
  /// another run, or with its own.
  Result<Made> reference(bool in_classes, const ChoiceLog* followed) {
    std::string what = in_classes ? "ref in the chip's classes" : "ref, exact";
    if (followed) what += ", with the chip's choices";
    RunnerOptions options = reference_options(run_.options);
    std::span<const Numerics> classes;
    if (in_classes) {
      options.forms = run_.numerics.forms;
      classes = run_.numerics.classes;
    }
    HADAL_TRY(const std::unique_ptr<Engine> engine, load(options, what));
    ReferenceRun sink(engine->runner(), classes, followed,
                      [&](std::string_view op) { run_.alive(what + ": " + std::string(op)); });
    engine->runner().run_by(&sink);
    Made made;
    HADAL_TRY(made.rows, logits(*engine, what));
    made.choices = sink.choices();
    return made;
  }
  // Of the last run on the chip.
  std::vector<std::string> notes;
  std::string place;

 private:
  Result<std::unique_ptr<Engine>> load(const RunnerOptions& options, const std::string& what) {
    run_.alive(what + " is loaded");
    const LoadProgress shown = run_.progress ? run_.progress() : LoadProgress();
    return Engine::load(checkpoint_, options, [&](uint64_t done, uint64_t total) {
      run_.alive(what + " is loaded");
      if (shown) shown(done, total);
    });
  }
  Result<contract::LogitRows> logits(Engine& engine, const std::string& what) {
    return forced_logits(engine, run_.prompt, [&](int64_t positions) {
      run_.alive(what + ": " + std::to_string(positions) + " positions are done");
    });
  }
  const Checkpoint& checkpoint_;
  const DistanceRun& run_;
};

/// Two that are nearly equal are exchanged by any rounding: as often as by the classes, but for
/// chance.
std::string judge_choices(const ChoiceCounts& chip, const ChoiceCounts& classes) {
  const auto expected = static_cast<double>(2 * classes.differ);
  if (static_cast<double>(chip.differ) <= expected + 3 * std::sqrt(expected) + 3) return {};
  return std::to_string(chip.differ) + " of " + std::to_string(chip.rows) +
         " choices of experts or entries are not ref's, " + std::to_string(classes.differ) +
         " in the classes that the chip answered";
}

}  // namespace

Result<ModelDistance> measure_model(const Checkpoint& checkpoint, const DistanceRun& run) {
  ModelDistance d;
  Runs runs(checkpoint, run);
  // Other processes end with the first run, so that one must do.
  const bool once = run.options.ranks != nullptr;
  HADAL_TRY(Made chip, runs.chip(once));
  d.notes = runs.notes;
  d.place = runs.place;
  HADAL_TRY(const Made exact, runs.reference(false, nullptr));
  HADAL_TRY(const Made classed, runs.reference(true, nullptr));
  d.distance = contract::measure_distance(exact.rows, classed.rows, chip.rows);
  d.why = d.distance.why();
  if (exact.choices.empty()) return d;
  // A token behind another choice says nothing of how exact the numbers are. Where the classes
  // round nothing, choices are others only where candidates are equal but for the order of sums.
  if (d.distance.class_kl > 0) {
    d.why = d.distance.mean;
    if (!d.why.empty()) return d;
  } else if (d.why.empty()) {
    return d;
  }
  d.own = d.distance;
  d.followed = true;
  if (!once) {
    HADAL_TRY(chip, runs.chip(true));
  }
  HADAL_TRY(const Made exact_followed, runs.reference(false, &chip.choices));
  HADAL_TRY(const Made classed_followed, runs.reference(true, &chip.choices));
  d.distance = contract::measure_distance(exact_followed.rows, classed_followed.rows, chip.rows);
  HADAL_TRY(d.chip, compare_choices(exact_followed.choices, chip.choices));
  HADAL_TRY(d.classes, compare_choices(exact_followed.choices, classed_followed.choices));
  d.why = judge_choices(d.chip, d.classes);
  if (d.why.empty()) d.why = d.distance.why();
  return d;
}

}  // namespace hadal
