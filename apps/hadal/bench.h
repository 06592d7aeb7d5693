// What `hadal bench` and its --profile (bench_profile.cc) share: the options, and prompts and
// decoding of random tokens on an engine.
#pragma once

#include <chrono>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "command.h"
#include "engine/engine.h"

namespace hadal::app {

struct BenchOptions {
  ModelFlags model;
  std::string prefill = "512", depths = "0", batches = "1";
  int64_t decode = 64, samples = 5;
  bool no_peaks = false, json = false, profile = false;
};

/// What is to be measured: of each prompt length a prompt, of each depth and batch decoding.
struct BenchPlan {
  std::vector<int64_t> prefills, depths, batches;
  int64_t context = 0, batch = 1;  ///< the longest sequence, and the largest batch
};

/// One measurement: `tokens` tokens in each of the samples' seconds.
struct Measured {
  std::string test;
  int64_t tokens = 0, depth = 0, batch = 1;
  std::vector<double> seconds;
  StepCost cost;
};

double median(std::vector<double> v);

/// An engine at work on random tokens.
class Bench {
 public:
  Bench(Engine& engine, const BenchOptions& o, Output& out) : engine_(engine), o_(o), out_(out) {}

  Result<Measured> prefill(int64_t tokens);
  Result<Measured> decode(int64_t depth, int64_t batch);

  /// Runs one prompt. whole: in one step.
  Status prompt(int64_t tokens, bool whole = false);
  /// Sequences whose prompts are done, so that each step gives a token of each. `new_tokens`: of
  /// each at least.
  Result<std::vector<SeqId>> begin_decoding(int64_t depth, int64_t batch, int64_t new_tokens);
  /// An error if a sequence of the batch lost its place or ended: then nothing is measured.
  [[nodiscard]] Status all_run(int64_t batch) const;

 private:
  using Clock = std::chrono::steady_clock;
  static double since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  }
  Request random_request(int64_t prompt, int64_t new_tokens);

  Engine& engine_;
  const BenchOptions& o_;
  Output& out_;
  std::mt19937 random_{1};
};

/// Why such a profile cannot be made: without peaks, or of nothing.
Status check_profile(const BenchOptions& o, const BenchPlan& plan);
/// Of one device: tables by operator, and whole steps beside their roofline.
Status profile(const BenchOptions& o, const BenchPlan& plan, const Checkpoint& checkpoint,
               Output& out);

}  // namespace hadal::app
