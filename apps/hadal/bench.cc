// hadal bench: prefill, and decode at several depths and batches, as JSON lines with per cent of
// the machine's own peak.
#include "bench.h"

#include <sys/resource.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "hadal/version.h"
#include "session/session.h"

namespace hadal::app {

double median(std::vector<double> v) {
  if (v.empty()) return 0;
  std::sort(v.begin(), v.end());
  return v.size() % 2 == 1 ? v[v.size() / 2] : (v[v.size() / 2 - 1] + v[v.size() / 2]) / 2;
}

Request Bench::random_request(int64_t prompt, int64_t new_tokens) {
  Request r;
  r.reuse_prefix = false;
  for (int64_t i = 0; i < prompt; ++i)
    r.prompt.push_back(
        static_cast<TokenId>(random_() % static_cast<uint64_t>(engine_.spec().vocab_size)));
  r.max_new_tokens = new_tokens;
  if (!engine_.runner().adapters().empty()) r.adapter = 0;  // what one costs
  return r;
}

Status Bench::prompt(int64_t tokens, bool whole) {
  Request request = random_request(tokens, 1);
  if (whole) request.chunks = {tokens};
  HADAL_TRY(engine_.add(std::move(request)));
  while (!engine_.idle()) HADAL_TRY(engine_.step());
  return {};
}

Result<Measured> Bench::prefill(int64_t tokens) {
  Measured m{.test = "pp" + std::to_string(tokens),
             .tokens = tokens,
             .cost = engine_.runner().step_cost({1, tokens, 1, 1, tokens},
                                                static_cast<double>(tokens) / 2)};
  HADAL_TRY(prompt(std::min<int64_t>(tokens, 32)));  // warm-up
  for (int64_t s = 0; s < o_.samples; ++s) {
    const auto start = Clock::now();
    HADAL_TRY(prompt(tokens));
    m.seconds.push_back(since(start));
    HADAL_TRY(out_.flush());
  }
  return m;
}

Status Bench::all_run(int64_t batch) const {
  if (static_cast<int64_t>(engine_.scheduler().running().size()) == batch) return {};
  return memory_error("the cache does not hold " + std::to_string(batch) +
                      " sequences of this length; --cache-tokens is too small");
}

Result<std::vector<SeqId>> Bench::begin_decoding(int64_t depth, int64_t batch, int64_t new_tokens) {
  std::vector<SeqId> ids;
  for (int64_t b = 0; b < batch; ++b) {
    HADAL_TRY(const SeqId id,
              engine_.add(random_request(std::max<int64_t>(1, depth), new_tokens + batch)));
    ids.push_back(id);
  }
  int64_t decoding = 0;
  while (decoding < batch) {
    HADAL_TRY(const std::vector<TokenEvent> events, engine_.step());
    decoding = static_cast<int64_t>(events.size());
    HADAL_TRY(all_run(batch));
  }
  return ids;
}

Result<Measured> Bench::decode(int64_t depth, int64_t batch) {
  Measured m{.test = "tg" + std::to_string(o_.decode),
             .tokens = o_.decode * batch,
             .depth = depth,
             .batch = batch};
  const double context = static_cast<double>(depth) + static_cast<double>(o_.decode) / 2;
  m.cost = engine_.runner().step_cost({1, batch, batch, batch, batch}, context);
  // All sequences decode together once their prompts are done; a sample is so many tokens of each.
  HADAL_TRY(const std::vector<SeqId> ids, begin_decoding(depth, batch, 3 + o_.decode * o_.samples));
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
  return m;
}

namespace {

using Json = nlohmann::ordered_json;

/// Tokens that the first sequence of a batch may generate while the prompts of the others still
/// run.
int64_t head_start(int64_t depth, int64_t batch) { return batch + 4 + depth * batch / 256; }

/// Prints measurements of one engine.
class Printer {
 public:
  Printer(const Engine& engine, const BenchOptions& o, Output& out, bool quantised,
          std::optional<Device::Peaks> peaks)
      : engine_(engine), o_(o), out_(out), quantised_(quantised), peaks_(peaks) {}

  Status print(const Measured& m) const {
    const double middle = median(m.seconds);
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    Json j;
    j["test"] = m.test;
    j["model"] = o_.model.path;
    j["version"] = HADAL_VERSION;
    describe_devices(j);
    j["depth"] = m.depth;
    j["batch"] = m.batch;
    j["samples"] = m.seconds.size();
    j["tok_s"] = static_cast<double>(m.tokens) / middle;
    j["tok_s_min"] =
        static_cast<double>(m.tokens) / *std::max_element(m.seconds.begin(), m.seconds.end());
    j["tok_s_max"] =
        static_cast<double>(m.tokens) / *std::min_element(m.seconds.begin(), m.seconds.end());
    if (engine_.spec().shard.ranks == 1) {  // a rank knows what it moves itself
      j["gb_s"] = m.cost.bytes / middle / 1e9;
      j["gop_s"] = m.cost.flops / middle / 1e9;
    }
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

 private:
  /// Where the model ran; of several devices each with its kernels.
  void describe_devices(Json& j) const {
    const ModelRunner& runner = engine_.runner();
    j["chip"] = runner.device().chip_name();
    j["device"] = o_.model.device;
    j["kernels"] = runner.device().info().kernels;
    j["threads"] = runner.device().info().threads;
    j["place"] = runner.options().place;
    j["fallback"] = o_.model.fallback;
    j["ranks"] = engine_.spec().shard.ranks;
    if (runner.on_one_device()) return;
    for (const Place& place : runner.places())
      j["devices"].push_back({{"device", place.name}, {"kernels", place.device->info().kernels}});
  }

  const Engine& engine_;
  const BenchOptions& o_;
  Output& out_;
  bool quantised_;
  std::optional<Device::Peaks> peaks_;
};

Result<BenchPlan> make_plan(const BenchOptions& o) {
  BenchPlan plan;
  HADAL_TRY(plan.prefills, parse_numbers(o.prefill, "--prefill", 1, 1 << 20));
  HADAL_TRY(plan.depths, parse_numbers(o.depths, "--depth", 0, 1 << 20));
  HADAL_TRY(plan.batches, parse_numbers(o.batches, "--batch", 1, 256));
  const auto most = [](const std::vector<int64_t>& v) {
    return v.empty() ? 1 : *std::max_element(v.begin(), v.end());
  };
  plan.batch = most(plan.batches);
  const int64_t depth = most(plan.depths);
  plan.context = std::max(most(plan.prefills) + 1,
                          depth + 4 + head_start(depth, plan.batch) + o.decode * o.samples);
  return plan;
}

Status measure(const BenchOptions& o, const BenchPlan& plan, const Checkpoint& checkpoint,
               Output& out) {
  RunnerOptions runner = o.model.runner(checkpoint, plan.context);
  runner.max_sequences = runner.max_logit_rows = plan.batch;
  HADAL_TRY(const std::unique_ptr<Engine> engine, Engine::load(checkpoint, runner, progress_bar()));
  std::optional<Device::Peaks> peaks;
  // The peaks are of one device.
  if (engine->runner().on_one_device() && !o.no_peaks && engine->runner().device().has_profile()) {
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
  const Printer printer(*engine, o, out, quantised, peaks);
  Bench bench(*engine, o, out);
  for (const int64_t n : plan.prefills) {
    HADAL_TRY(const Measured m, bench.prefill(n));
    HADAL_TRY(printer.print(m));
  }
  if (o.decode == 0) return {};
  for (const int64_t depth : plan.depths)
    for (const int64_t b : plan.batches) {
      HADAL_TRY(const Measured m, bench.decode(depth, b));
      HADAL_TRY(printer.print(m));
    }
  return {};
}

Status run(const BenchOptions& o, Output& out) {
  HADAL_TRY(o.model.join());
  HADAL_TRY(const BenchPlan plan, make_plan(o));
  if (o.profile) HADAL_TRY(check_profile(o, plan));
  HADAL_TRY(const std::unique_ptr<Checkpoint> checkpoint, o.model.open());
  HADAL_TRY(const int64_t limit, model_context(*checkpoint));
  if (plan.context > limit)
    return memory_error("this bench needs a context of " + std::to_string(plan.context) +
                        " tokens, the model's limit is " + std::to_string(limit));
  return o.profile ? profile(o, plan, *checkpoint, out) : measure(o, plan, *checkpoint, out);
}

}  // namespace

void add_bench(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<BenchOptions>();
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
  c->add_flag("--profile", o->profile,
              "a table by operator instead: times, what a launch costs, per cent of the roofline");
  c->add_flag("--json", o->json, "JSON lines also of --profile; without it they are anyhow");
  c->footer(
      "A line a test: pp512 is a prompt of 512 tokens, tg64 are 64 generated tokens; tok_s is the "
      "median of tokens a\nsecond, percent_of_… compares with this machine's measured peaks.");
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run(*o, out); }; });
}

}  // namespace hadal::app
