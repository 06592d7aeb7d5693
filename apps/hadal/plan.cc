// hadal plan: does a model fit, what memory does it need, how fast can it be at best.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "session.h"

namespace hadal::app {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  ModelOptions model;
  int64_t depth = 0;
  bool json = false;
};

/// Tokens a second at the roofline: the slower of reading all bytes and doing all arithmetic.
double roofline(const Plan& plan, const Device::Peaks& peaks, int64_t tokens, bool quantised) {
  const double arithmetic = quantised ? peaks.int8_ops_per_second : peaks.fp32_flops_per_second;
  const double seconds =
      std::max(plan.bytes / peaks.read_bytes_per_second, plan.flops / arithmetic);
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

Status run(const Options& o) {
  HADAL_TRY(const std::unique_ptr<Checkpoint> checkpoint, Checkpoint::open(o.model.model));
  HADAL_TRY(const int64_t limit, model_context(*checkpoint));
  HADAL_TRY(const std::unique_ptr<ModelRunner> runner,
            ModelRunner::open(*checkpoint, o.model.runner(std::min<int64_t>(limit, 8192))));
  HADAL_TRY(const MemoryPlan memory, runner->memory_plan());
  const bool fits = memory.total() <= memory.available;
  const Plan decode = runner->plan({1, 1, 1, 1, 1}, static_cast<double>(o.depth));
  constexpr int64_t kPrompt = 512;
  const Plan prefill =
      runner->plan({1, kPrompt, 1, 1, kPrompt}, static_cast<double>(o.depth) + kPrompt / 2.0);
  const FileTableTotals tables = runner->file_tables();
  double parameters = tables.parameters, active = tables.used_by_a_token;
  for (const Weight& w : runner->weights()) {
    if (!w.table.empty()) continue;  // computed, not stored
    const auto elements = static_cast<double>(w.source.batch * w.source.rows * w.source.cols);
    parameters += elements;
    active += w.source.uses == HADAL_USE_GATHER ? 0 : elements * w.active;
  }
  Json j;
  j["fits"] = fits;
  j["parameters"] = parameters;
  j["active_parameters"] = active;
  j["context"] = runner->context();
  j["bytes"] = {{"weights", memory.weights},
                {"cache", memory.cache},
                {"cache_per_token", memory.cache_per_token},
                {"cache_kept", memory.cache_kept},
                {"tables_in_file", static_cast<uint64_t>(tables.bytes)},
                {"scratch", memory.scratch},
                {"step", memory.step},
                {"workspace", memory.workspace},
                {"total", memory.total()},
                {"available", memory.available}};
  j["decode"] = {{"bytes_per_token", decode.bytes}, {"flops_per_token", decode.flops}};
  j["prefill"] = {{"bytes", prefill.bytes}, {"flops", prefill.flops}, {"tokens", kPrompt}};
  double decode_rate = 0, prefill_rate = 0;
  Device::Peaks peaks;
  if (runner->device().has_profile()) {
    HADAL_TRY(peaks, runner->device().measure());
    bool quantised = false;
    for (const Weight& w : runner->weights())
      quantised = quantised || (w.source.rows > 1 && !is_plain(static_cast<DType>(w.tensor.dtype)));
    decode_rate = roofline(decode, peaks, 1, quantised);
    prefill_rate = roofline(prefill, peaks, kPrompt, quantised);
    j["peaks"] = {{"read_bytes_per_second", peaks.read_bytes_per_second},
                  {"int8_ops_per_second", peaks.int8_ops_per_second},
                  {"fp32_flops_per_second", peaks.fp32_flops_per_second}};
    j["decode"]["roofline_tokens_per_second"] = decode_rate;
    j["prefill"]["roofline_tokens_per_second"] = prefill_rate;
  }
  if (o.json) {
    std::printf("%s\n", j.dump().c_str());
  } else {
    const double mib = 1024.0 * 1024;
    const auto line = [&](const char* name, uint64_t bytes) {
      std::printf("  %-18s %10.1f MiB\n", name, static_cast<double>(bytes) / mib);
    };
    std::printf("%s on chip %s (%s, kernels %s)\n", o.model.model.c_str(),
                std::string(runner->device().chip_name()).c_str(), runner->device().info().name,
                runner->device().info().kernels);
    std::printf("  %-18s %10.2f billion, %.2f billion used for a token\n", "parameters",
                parameters / 1e9, active / 1e9);
    line("weights", memory.weights);
    if (tables.bytes > 0)
      std::printf("  %-18s %10.1f MiB, read from the file a few rows at a time\n", "tables",
                  tables.bytes / mib);
    line("cache", memory.cache);
    std::printf("  %-18s %10lld tokens, %.1f KiB each", "  context",
                static_cast<long long>(runner->context()),
                static_cast<double>(memory.cache_per_token) / 1024);
    if (memory.cache_kept > 0)
      std::printf(", and %.1f MiB of last rows", static_cast<double>(memory.cache_kept) / mib);
    std::printf("\n");
    line("working memory", memory.scratch + memory.step + memory.workspace);
    line("together", memory.total());
    line("free", memory.available);
    std::printf("  %s\n", fits ? "it fits" : "it does NOT fit");
    std::printf("  a generated token reads %.1f MB and takes %.2f GFLOP\n", decode.bytes / 1e6,
                decode.flops / 1e9);
    if (decode_rate > 0)
      std::printf(
          "  at best, by this machine's measured %.1f GB/s and %.0f GOP/s: %.1f tokens/s "
          "generated, %.0f tokens/s of prompt\n",
          peaks.read_bytes_per_second / 1e9, peaks.int8_ops_per_second / 1e9, decode_rate,
          prefill_rate);
  }
  return fits ? Status{} : runner->check_memory();
}

}  // namespace

void add_plan(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand(
      "plan", "does it fit, what memory does it need, how fast can it be at best");
  o->model.declare(*c);
  c->add_option("--depth", o->depth, "tokens of context before the ones that are costed")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  c->add_flag("--json", o->json, "one JSON object");
  c->callback([o, &chosen] { chosen = [o] { return run(*o); }; });
}

}  // namespace hadal::app
