// hadal plan: does a model fit, what memory does it need, how fast can it be at best.
#include <fmt/ranges.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "checkpoint/printable.h"
#include "command.h"
#include "engine/roofline.h"
#include "session/session.h"

namespace hadal::app {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  ModelFlags model;
  int64_t depth = 0;
  bool json = false;
};

/// What is known before anything is loaded.
struct Verdict {
  MemoryPlan memory;
  bool fits = false;  ///< into each of the devices' memories
  StepCost decode, prefill;
  FileTableTotals tables;
  std::vector<std::string> adapters;  ///< their names
  int64_t ranks = 1;                  ///< what is said is of the first of them
  double parameters = 0, active = 0;
  std::optional<Roofline> best;
  std::optional<FromDisk> disk;
};

Result<Verdict> judge(ModelRunner& runner, int64_t depth) {
  Verdict v;
  v.memory = runner.memory_plan();
  v.ranks = runner.spec().shard.ranks;
  v.fits = runner.check_memory().has_value();
  v.decode = decode_cost(runner, static_cast<double>(depth));
  v.prefill = prompt_cost(runner, static_cast<double>(depth));
  v.disk = runner.from_disk(static_cast<double>(depth));
  v.tables = runner.file_tables();
  for (const NamedAdapter& adapter : runner.adapters())
    v.adapters.push_back(printable(adapter.name));
  v.parameters = v.tables.parameters;
  v.active = v.tables.used_by_a_token;
  for (const Weight& w : runner.weights()) {
    if (!w.table.empty()) continue;  // computed, not stored
    const auto elements = static_cast<double>(w.source.batch * w.source.rows * w.source.cols);
    v.parameters += elements;
    v.active += w.source.uses == HADAL_USE_GATHER ? 0 : elements * w.active;
  }
  HADAL_TRY(v.best, measure_roofline(runner, static_cast<double>(depth)));
  return v;
}

Json to_json(const Verdict& v, int64_t context) {
  Json j;
  j["fits"] = v.fits;
  j["ranks"] = v.ranks;
  j["parameters"] = v.parameters;
  j["active_parameters"] = v.active;
  j["context"] = context;
  j["bytes"] = {{"weights", v.memory.weights},
                {"mapped", v.memory.mapped},
                {"adapters", v.memory.adapters},
                {"cache", v.memory.cache},
                {"cache_per_token", v.memory.cache_per_token},
                {"cache_kept", v.memory.cache_kept},
                {"tables_in_file", static_cast<uint64_t>(v.tables.bytes)},
                {"scratch", v.memory.scratch},
                {"step", v.memory.step},
                {"workspace", v.memory.workspace},
                {"total", v.memory.total()},
                {"needed", v.memory.needed()},
                {"missing", v.memory.missing()},
                {"available", v.memory.available}};
  for (const auto& [numerics, operators] : v.decode.classes) j["numerics"][numerics] = operators;
  j["decode"] = {{"bytes_per_token", v.decode.bytes}, {"flops_per_token", v.decode.flops}};
  j["prefill"] = {
      {"bytes", v.prefill.bytes}, {"flops", v.prefill.flops}, {"tokens", Roofline::kPrompt}};
  if (v.disk && v.disk->tokens_per_second)
    j["disk"] = {{"bytes_per_second", *v.disk->bytes_per_second},
                 {"tokens_per_second", *v.disk->tokens_per_second}};
  if (v.best) {
    const Device::Peaks& peaks = v.best->peaks;
    j["peaks"] = {{"read_bytes_per_second", peaks.read_bytes_per_second},
                  {"int8_ops_per_second", peaks.int8_ops_per_second},
                  {"fp32_flops_per_second", peaks.fp32_flops_per_second}};
    j["decode"]["roofline_tokens_per_second"] = v.best->decode;
    j["prefill"]["roofline_tokens_per_second"] = v.best->prompt;
  }
  return j;
}

void print(Output& out, const Verdict& v, int64_t context) {
  const auto mib = [](auto bytes) { return static_cast<double>(bytes) / (1024 * 1024); };
  const auto line = [&](const char* name, uint64_t bytes) {
    out.print("  {:<18} {:10.1f} MiB\n", name, mib(bytes));
  };
  out.print("  {:<18} {:10.2f} billion, {:.2f} billion used for a token\n", "parameters",
            v.parameters / 1e9, v.active / 1e9);
  line("weights", v.memory.weights);
  if (v.memory.mapped > 0)
    out.print("  {:<18} {:10.1f} MiB, shared with the page cache\n", "  mapped",
              mib(v.memory.mapped));
  if (v.tables.bytes > 0)
    out.print("  {:<18} {:10.1f} MiB, read from the file a few rows at a time\n", "tables",
              mib(v.tables.bytes));
  if (v.memory.adapters > 0)
    out.print("  {:<18} {:10.1f} MiB: {}\n", "adapters", mib(v.memory.adapters),
              fmt::join(v.adapters, ", "));
  line("cache", v.memory.cache);
  out.print("  {:<18} {:10} tokens, {:.1f} KiB each", "  context", context,
            static_cast<double>(v.memory.cache_per_token) / 1024);
  if (v.memory.cache_kept > 0) out.print(", and {:.1f} MiB of last rows", mib(v.memory.cache_kept));
  out.write("\n");
  for (const auto& [numerics, operators] : v.decode.classes)
    if (numerics != "exact")
      out.print("  {:<18} {}: {}\n", "numerics", numerics, fmt::join(operators, ", "));
  line("working memory", v.memory.scratch + v.memory.step + v.memory.workspace);
  line("together", v.memory.total());
  line("free", v.memory.available);
  out.print("  {}\n", !v.fits  ? "it does NOT fit"
                      : v.disk ? "it runs, but " + v.disk->text()
                               : "it fits");
  out.print("  a generated token reads {:.1f} MB and takes {:.2f} GFLOP\n", v.decode.bytes / 1e6,
            v.decode.flops / 1e9);
  if (v.best && v.best->decode > 0)
    out.print(
        "  at best, by this machine's measured {:.1f} GB/s and {:.0f} GOP/s: {:.1f} tokens/s "
        "generated, {:.0f} tokens/s of prompt\n",
        v.best->peaks.read_bytes_per_second / 1e9, v.best->peaks.int8_ops_per_second / 1e9,
        v.best->decode, v.best->prompt);
}

Status run(const Options& o, Output& out) {
  HADAL_TRY(const std::unique_ptr<Checkpoint> checkpoint, o.model.open());
  HADAL_TRY(const int64_t limit, model_context(*checkpoint));
  RunnerOptions options = o.model.runner(*checkpoint, std::min<int64_t>(limit, 8192));
  options.max_sequences = options.max_logit_rows = 1;
  HADAL_TRY(const std::unique_ptr<ModelRunner> runner, ModelRunner::open(*checkpoint, options));
  print_notes(checkpoint->notes());
  HADAL_TRY(const Verdict verdict, judge(*runner, o.depth));
  if (o.json) {
    out.print("{}\n", to_json(verdict, runner->context()).dump());
  } else {
    const hadal_device_info& info = runner->device().info();
    out.print("{} on chip {} ({}, kernels {})\n", o.model.path, runner->device().chip_name(),
              info.name, info.kernels);
    for (const std::string& line : runner->notes()) out.print("  {}\n", line);
    print(out, verdict, runner->context());
  }
  return runner->check_memory();
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
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run(*o, out); }; });
}

}  // namespace hadal::app
