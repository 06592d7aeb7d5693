#include "answer_flags.h"

namespace hadal::app {

void AnswerFlags::declare(CLI::App& command, int64_t max_new) {
  options.max_new_tokens = max_new;
  command
      .add_option("--max-new", options.max_new_tokens,
                  max_new > 0 ? "most tokens to generate"
                              : "most tokens to generate; 0: until the context is full")
      ->check(CLI::Range(int64_t{max_new > 0}, int64_t{1} << 24))
      ->capture_default_str();
  const char* group = "Sampling (default: what the model recommends)";
  SamplingChoice& s = options.sampling;
  command.add_option("--temperature", s.temperature, "0: greedy")->group(group);
  command.add_option("--top-k", s.top_k, "keep the k most likely; 0: off")->group(group);
  command.add_option("--top-p", s.top_p, "keep the most likely whose probabilities sum to p")
      ->group(group);
  command.add_option("--min-p", s.min_p, "keep those at least p times as likely as the best")
      ->group(group);
  command.add_option("--repetition-penalty", s.repetition_penalty, "1: off")->group(group);
  command.add_option("--presence-penalty", s.presence_penalty, "0: off")->group(group);
  command.add_option("--frequency-penalty", s.frequency_penalty, "0: off")->group(group);
  command
      .add_option("--seed", seed_, "same seed, same answer; by default, and for -1, a random one")
      ->group(group);
  command.add_option("--stop", options.stop, "end the answer before this text (may be repeated)")
      ->group(group)
      ->allow_extra_args(false);
  command.add_flag("--greedy", s.greedy, "always the most likely token")->group(group);
}

AnswerOptions AnswerFlags::answer() const {
  AnswerOptions answer = options;
  if (seed_ && *seed_ >= 0) answer.sampling.seed = static_cast<uint64_t>(*seed_);
  return answer;
}

}  // namespace hadal::app
