// hadal bench: prefill, and decode at several depths and batches, as JSON lines with per cent of
// the machine's own peak.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "command.h"
#include "hadal/version.h"
#include "session/session.h"

namespace hadal::app {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  ModelFlags model;
  std::string prefill = "512", depths = "0", batches = "1";
  int64_t decode = 64, samples = 5;
  bool no_peaks = false, json = false;
};

/// Tokens that the first sequence of a batch may generate while the prompts of the others still
/// run.
int64_t head_start(int64_t depth, int64_t batch) { return batch + 4 + depth * batch / 256; }

/// One measurement: `tokens` tokens in each of the samples' seconds.
struct Measured {
  std::string test;
  int64_t tokens = 0, depth = 0, batch = 1;
  std::vector<double> seconds;
  StepCost cost;
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.size() % 2 == 1 ? v[v.size() / 2] : (v[v.size() / 2 - 1] + v[v.size() / 2]) / 2;
}

Request random_request(Engine& engine, std::mt19937& random, int64_t prompt, int64_t new_tokens) {
  Request r;
  r.reuse_prefix = false;
  for (int64_t i = 0; i < prompt; ++i)
    r.prompt.push_back(
        static_cast<TokenId>(random() % static_cast<uint64_t>(engine.spec().vocab_size)));
  r.max_new_tokens = new_tokens;
  if (!engine.runner().adapters().empty()) r.adapter = 0;  // what one costs
  return r;
}

class Bench {
 public:
  Bench(Engine& engine, const Options& o, Output& out, bool quantised,
        std::optional<Device::Peaks> peaks)
      : engine_(engine), o_(o), out_(out), quantised_(quantised), peaks_(peaks) {}

  Status prefill(int64_t tokens) {
    Measured m{.test = "pp" + std::to_string(tokens),
               .tokens = tokens,
               .cost = engine_.runner().step_cost({1, tokens, 1, 1, tokens},
                                                  static_cast<double>(tokens) / 2)};
    HADAL_TRY(engine_.add(
        random_request(engine_, random_, std::min<int64_t>(tokens, 32), 1)));  // warm-up
    while (!engine_.idle()) HADAL_TRY(engine_.step());
    for (int64_t s = 0; s < o_.samples; ++s) {
      HADAL_TRY(engine_.add(random_request(engine_, random_, tokens, 1)));
      const auto start = Clock::now();
      while (!engine_.idle()) HADAL_TRY(engine_.step());
      m.seconds.push_back(since(start));
      HADAL_TRY(out_.flush());
    }
    return print(m);
  }

  Status decode(int64_t depth, int64_t batch) {
    Measured m{.test = "tg" + std::to_string(o_.decode),
               .tokens = o_.decode * batch,
               .depth = depth,
               .batch = batch};
    const double context = static_cast<double>(depth) + static_cast<double>(o_.decode) / 2;
    m.cost = engine_.runner().step_cost({1, batch, batch, batch, batch}, context);
    // All sequences decode together once their prompts are done; a sample is so many tokens of
    // each.
    const int64_t total = 3 + o_.decode * o_.samples;
    std::vector<SeqId> ids;
    for (int64_t b = 0; b < batch; ++b) {
      HADAL_TRY(const SeqId id, engine_.add(random_request(
                                    engine_, random_, std::max<int64_t>(1, depth), total + batch)));
      ids.push_back(id);
    }
    int64_t decoding = 0;
    while (decoding < batch) {
      HADAL_TRY(const std::vector<TokenEvent> events, engine_.step());
      decoding = static_cast<int64_t>(events.size());
      HADAL_TRY(all_run(batch));
    }
    for (int i = 0; i < 2; ++i) HADAL_TRY(engine_.step());
    for (int64_t s = 0; s < o_.samples; ++s) {
      const auto start = Clock::now();
      for (int64_t t = 0; t < o_.decode; ++t) HADAL_TRY(engine_.step());
      m.seconds.push_back(since(start));
      HADAL_TRY(all_run(batch));
      HADAL_TRY(out_.flush());
    }
    for (const SeqId id : ids) engine_.cancel(id);
    m.cost.bytes *= static_cast<double>(o_.decode);
    m.cost.flops *= static_cast<double>(o_.decode);
    return print(m);
  }

 private:
  /// An error if a sequence of the batch lost its place or ended: then nothing is measured.
  Status all_run(int64_t batch) const {
    if (static_cast<int64_t>(engine_.scheduler().running().size()) == batch) return {};
    return memory_error("the cache does not hold " + std::to_string(batch) +
                        " sequences of this length; --cache-tokens is too small");
  }

  using Clock = std::chrono::steady_clock;
  static double since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  Status print(const Measured& m) const {
    const double middle = median(m.seconds);
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    Json j;
    j["test"] = m.test;
    j["model"] = o_.model.path;
    j["version"] = HADAL_VERSION;
    j["chip"] = engine_.runner().device().chip_name();
    j["kernels"] = engine_.runner().device().info().kernels;
    j["threads"] = engine_.runner().device().info().threads;
    j["depth"] = m.depth;
    j["batch"] = m.batch;
    j["samples"] = m.seconds.size();
    j["tok_s"] = static_cast<double>(m.tokens) / middle;
    j["tok_s_min"] =
        static_cast<double>(m.tokens) / *std::max_element(m.seconds.begin(), m.seconds.end());
    j["tok_s_max"] =
        static_cast<double>(m.tokens) / *std::min_element(m.seconds.begin(), m.seconds.end());
    j["gb_s"] = m.cost.bytes / middle / 1e9;
    j["gop_s"] = m.cost.flops / middle / 1e9;
    if (peaks_) {
      j["percent_of_read_peak"] = 100 * m.cost.bytes / middle / peaks_->read_bytes_per_second;
      j["percent_of_dot_peak"] =
          100 * m.cost.flops / middle /
          (quantised_ ? peaks_->int8_ops_per_second : peaks_->fp32_flops_per_second);
    }
    j["step_input_bytes"] = engine_.runner().input_bytes_copied();  // of the last step
    j["peak_rss_mib"] = usage.ru_maxrss / 1024;
    out_.print("{}\n", j.dump(-1, ' ', false, Json::error_handler_t::replace));
    return out_.flush();
  }

  Engine& engine_;
  const Options& o_;
  Output& out_;
  bool quantised_;
  std::optional<Device::Peaks> peaks_;
  std::mt19937 random_{1};
};

Status run(const Options& o, Output& out) {
  HADAL_TRY(const std::vector<int64_t> prefills, parse_numbers(o.prefill, "--prefill", 1, 1 << 20));
  HADAL_TRY(const std::vector<int64_t> depths, parse_numbers(o.depths, "--depth", 0, 1 << 20));
  HADAL_TRY(const std::vector<int64_t> batches, parse_numbers(o.batches, "--batch", 1, 256));
  const auto most = [](const std::vector<int64_t>& v) {
    return v.empty() ? 1 : *std::max_element(v.begin(), v.end());
  };
  HADAL_TRY(const std::unique_ptr<Checkpoint> checkpoint, o.model.open());
  HADAL_TRY(const int64_t limit, model_context(*checkpoint));
  const int64_t batch = most(batches);
  const int64_t needed =
      std::max(most(prefills) + 1,
               most(depths) + 4 + head_start(most(depths), batch) + o.decode * o.samples);
  if (needed > limit)
    return memory_error("this bench needs a context of " + std::to_string(needed) +
                        " tokens, the model's limit is " + std::to_string(limit));
  RunnerOptions runner = o.model.runner(*checkpoint, needed);
  runner.max_sequences = runner.max_logit_rows = batch;
  HADAL_TRY(const std::unique_ptr<Engine> engine,
            Engine::load(*checkpoint, runner, progress_bar()));
  std::optional<Device::Peaks> peaks;
  if (!o.no_peaks && engine->runner().device().has_profile()) {
    HADAL_TRY(peaks, engine->runner().device().measure());
    out.print("{}\n", Json({{"test", "peaks"},
                            {"read_gb_s", peaks->read_bytes_per_second / 1e9},
                            {"int8_gop_s", peaks->int8_ops_per_second / 1e9},
                            {"fp32_gflop_s", peaks->fp32_flops_per_second / 1e9}})
                          .dump());
    HADAL_TRY(out.flush());
  }
  bool quantised = false;
  for (const Weight& w : engine->runner().weights())
    quantised = quantised || (w.source.rows > 1 && !is_plain(static_cast<DType>(w.tensor.dtype)));
  Bench bench(*engine, o, out, quantised, peaks);
  for (const int64_t n : prefills) HADAL_TRY(bench.prefill(n));
  if (o.decode > 0)
    for (const int64_t depth : depths)
      for (const int64_t b : batches) HADAL_TRY(bench.decode(depth, b));
  return {};
}

}  // namespace

void add_bench(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand(
      "bench", "measure prefill and decode; JSON lines with per cent of this machine's peaks");
  o->model.declare(*c);
  c->add_option("--prefill", o->prefill, "prompt lengths, commas between; \"\": none")
      ->capture_default_str();
  c->add_option("--decode", o->decode, "tokens of a decode sample; 0: none")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
      ->capture_default_str();
  c->add_option("--depth", o->depths, "tokens of context before decoding, commas between")
      ->capture_default_str();
  c->add_option("--batch", o->batches, "sequences that decode together, commas between")
      ->capture_default_str();
  c->add_option("--samples", o->samples, "samples of each")
      ->check(CLI::Range(int64_t{1}, int64_t{1000}))
      ->capture_default_str();
  c->add_flag("--no-peaks", o->no_peaks, "do not measure the machine's peaks");
  c->add_flag("--json", o->json, "accepted for symmetry: the output is JSON lines anyhow");
  c->footer(
      "A line a test: pp512 is a prompt of 512 tokens, tg64 are 64 generated tokens; tok_s is the "
      "median of tokens a\nsecond, percent_of_… compares with this machine's measured peaks.");
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run(*o, out); }; });
}

}  // namespace hadal::app
