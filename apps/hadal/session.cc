#include "session.h"

#include <chrono>
#include <csignal>
#include <random>

#include "text/chat/recommended.h"

namespace hadal::app {
namespace {

// The one engine that a signal handler may reach; set by InterruptGuard only.
Engine* interruptible = nullptr;
void on_interrupt(int) {
  if (interruptible) interruptible->interrupt();
}

/// `given`, else the recommendation's number, else `otherwise`.
Result<float> choose(const std::optional<float>& given, const Config& recommended, const char* key,
                     float otherwise) {
  if (given) return *given;
  HADAL_TRY(const double value, recommended.real(key, static_cast<double>(otherwise)));
  return static_cast<float>(value);
}

}  // namespace

void SamplingOptions::declare(CLI::App& command) {
  const char* group = "Sampling (default: what the model recommends)";
  command.add_option("--temperature", temperature, "0: greedy")->group(group);
  command.add_option("--top-k", top_k, "keep the k most likely; 0: off")->group(group);
  command.add_option("--top-p", top_p, "keep the most likely whose probabilities sum to p")
      ->group(group);
  command.add_option("--min-p", min_p, "keep those at least p times as likely as the best")
      ->group(group);
  command.add_option("--repetition-penalty", repetition_penalty, "1: off")->group(group);
  command.add_option("--presence-penalty", presence_penalty, "0: off")->group(group);
  command.add_option("--frequency-penalty", frequency_penalty, "0: off")->group(group);
  command.add_option("--seed", seed, "same seed, same answer; by default a random one")
      ->group(group);
  command.add_option("--stop", stop, "end the answer before this text (may be repeated)")
      ->group(group)
      ->allow_extra_args(false);
  command.add_flag("--greedy", greedy, "always the most likely token")->group(group);
}

Result<SamplingParams> SamplingOptions::params(const TokenizerData& data,
                                               std::string_view chat_format,
                                               const std::string& origin) const {
  Config recommended;
  if (!data.generation_config_json.empty()) {
    HADAL_TRY(recommended,
              Config::parse(data.generation_config_json, origin + " (generation_config)"));
  }
  HADAL_TRY(const bool do_sample, recommended.boolean("do_sample", true));
  SamplingParams s;
  // DeepSeek's recommendation for its reasoning models stands where nothing else is known.
  const RecommendedSampling usual =
      recommended_sampling(chat_format, data.chat_template)
          .value_or(RecommendedSampling{.temperature = 0.6F, .top_p = 0.95F});
  HADAL_TRY(s.temperature,
            choose(temperature, recommended, "temperature", do_sample ? usual.temperature : 0.0F));
  HADAL_TRY(s.top_p, choose(top_p, recommended, "top_p", usual.top_p));
  HADAL_TRY(s.min_p, choose(min_p, recommended, "min_p", usual.min_p));
  HADAL_TRY(s.repetition_penalty,
            choose(repetition_penalty, recommended, "repetition_penalty", 1.0F));
  HADAL_TRY(s.presence_penalty, choose(presence_penalty, recommended, "presence_penalty", 0.0F));
  HADAL_TRY(s.frequency_penalty, choose(frequency_penalty, recommended, "frequency_penalty", 0.0F));
  HADAL_TRY(const int64_t k, recommended.integer("top_k", 0, INT32_MAX, usual.top_k));
  s.top_k = top_k.value_or(static_cast<int32_t>(k));
  if (!temperature && !do_sample) s.temperature = 0;
  if (greedy) s.temperature = 0;
  if (seed) {
    s.seed = *seed;
  } else {
    std::random_device device;
    s.seed = (static_cast<uint64_t>(device()) << 32) | device();
  }
  return s;
}

double Outcome::tokens_per_second() const {
  const double seconds = total_seconds - first_token_seconds;
  return new_tokens > 1 && seconds > 0 ? static_cast<double>(new_tokens - 1) / seconds : 0;
}

std::string Outcome::finish_text() const {
  if (interrupted) return "interrupted";
  if (stopped || finish == FinishReason::kEnding) return "stop";
  if (finish == FinishReason::kLength) return "length";
  if (finish == FinishReason::kContext) return "context full";
  return "none";
}

Result<int64_t> model_context(const Checkpoint& checkpoint) {
  return checkpoint.config().integer("max_position_embeddings", 1, INT32_MAX, INT32_MAX);
}

Result<Outcome> run_request(Engine& engine, Request request,
                            const std::function<bool(TokenId)>& on_token) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  Outcome outcome;
  outcome.prompt_tokens = static_cast<int64_t>(request.prompt.size());
  HADAL_TRY(const SeqId id, engine.add(std::move(request)));
  while (!engine.idle()) {
    auto events = engine.step();
    if (!events) {
      engine.cancel(id);
      if (events.error().code != ErrorCode::kInterrupted) return std::move(events).error();
      engine.runner().clear_interrupt();
      outcome.interrupted = true;
      break;
    }
    for (const TokenEvent& event : *events) {
      if (event.seq != id) continue;
      if (event.token >= 0) {
        if (outcome.new_tokens++ == 0) outcome.first_token_seconds = seconds();
        if (!on_token(event.token)) {
          outcome.stopped = true;
          engine.cancel(id);
        }
      }
      outcome.finish = event.finish;
    }
  }
  outcome.total_seconds = seconds();
  return outcome;
}

InterruptGuard::InterruptGuard(Engine& engine) {
  interruptible = &engine;
  struct sigaction action{};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, &before_);
}

InterruptGuard::~InterruptGuard() {
  sigaction(SIGINT, &before_, nullptr);
  interruptible = nullptr;
}

std::string StopStrings::push(const std::string& text) {
  held_ += text;
  size_t end = std::string::npos;
  for (const std::string& stop : stops_)
    if (!stop.empty()) end = std::min(end, held_.find(stop));
  if (end != std::string::npos) {
    hit_ = true;
    std::string out = held_.substr(0, end);
    held_.clear();
    return out;
  }
  // Keep the longest tail that is the beginning of a stop string.
  size_t keep = 0;
  for (const std::string& stop : stops_)
    for (size_t n = std::min(stop.size(), held_.size() + 1) - (stop.empty() ? 0 : 1); n > keep; --n)
      if (held_.size() >= n && held_.compare(held_.size() - n, n, stop, 0, n) == 0) keep = n;
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return out;
}

}  // namespace hadal::app
