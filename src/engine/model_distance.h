// How far a chip, or several by placement or in ranks, is from the reference over a real model, and
// whether it is near enough: the runs of reference_run.h and the rules of contract/distance.h.
//
// In a model that chooses experts, entries or blocks, two candidates that are nearly equal are
// exchanged by any rounding, and all behind such a row differs by far more than rounding moves it.
// So the model is run as its user runs it, where each run chooses for itself and the mean is
// judged; and once more with the choices noted, which `ref` then takes, where both rules hold for
// every row. How many choices are not exact ref's own is bounded.
//
// Refuses nothing of its own. Called by `hadal chip distance`.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/reference_run.h"

namespace hadal {

struct ModelDistance {
  contract::Distance distance;     ///< with the chip's choices, where it chooses
  contract::Distance own;          ///< then: where each run chooses for itself
  bool followed = false;           ///< `ref` took the chip's choices
  ChoiceCounts chip, classes;      ///< then: choices that are not exact ref's own
  std::vector<std::string> notes;  ///< of the run on the chip
  std::string place;               ///< the rules that it was placed by, of an automatic one too
  std::string why;                 ///< which rule is broken, and how; empty: none
};

struct DistanceRun {
  RunnerOptions options;  ///< of the chip, as its user runs it
  ForcedPrompt prompt;
  std::string where;       ///< what the run on the chip is called
  ModelNumerics numerics;  ///< of ask_numerics, that declines nothing
  /// Told what happens, often enough to be a sign of life.
  std::function<void(const std::string& what)> alive = [](const std::string&) {};
  std::function<LoadProgress()> progress = {};  ///< makes one for each load
};

/// Of several processes, all but the first end with its first run.
Result<ModelDistance> measure_model(const Checkpoint& checkpoint, const DistanceRun& run);

}  // namespace hadal
