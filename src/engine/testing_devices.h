// What the tests of several devices share: the stand-in for an accelerator, and answers to compare.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/testing.h"

namespace hadal::testing {

/// One request after another, and several together, with drafts where the model has them.
inline std::vector<Got> answers(const char* model, const RunnerOptions& options) {
  const Loaded l = load(golden(model), options);
  const int64_t vocab = l.engine->spec().vocab_size;
  std::vector<Got> got = run(*l.engine, {request(1, 200, 12, vocab), request(2, 3, 12, vocab)});
  for (Got& more : run(*l.engine, {request(1, 230, 8, vocab)})) got.push_back(std::move(more));
  return got;
}

inline RunnerOptions options_for(std::string_view model) {
  RunnerOptions options = small_options();
  options.draft = model.starts_with("deepseek-v3") || model.starts_with("deepseek-v4");
  return options;
}

/// The stand-in for an accelerator, with options of its own.
inline RunnerOptions apart_options(std::vector<std::pair<std::string, std::string>> options) {
  RunnerOptions runner = small_options();
  runner.device.chip = HADAL_APART_HALF_FILE;
  runner.device.chip_options = std::move(options);
  return runner;
}

inline double squared_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return sum;
}

}  // namespace hadal::testing
