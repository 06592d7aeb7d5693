// hadal quantize: a model as a GGUF file in smaller types.
#include "quantize/quantize.h"

#include <fmt/format.h>

#include <atomic>
#include <csignal>
#include <memory>

#include "base/cpu_info.h"
#include "command.h"

namespace hadal::app {
namespace {

struct Options {
  std::string in, out, type;
  bool allow_requantize = false, force = false;
  int32_t threads = 0;
};

std::atomic<bool> interrupted = false;
void interrupt(int) { interrupted = true; }

Status run(const Options& o, Output& out) {
  HADAL_TRY(const std::unique_ptr<Checkpoint> source, Checkpoint::open(o.in));
  const auto before = std::signal(SIGINT, interrupt), term = std::signal(SIGTERM, interrupt);
  std::signal(SIGXFSZ, SIG_IGN);  // a file too large is an error of write()
  const auto report =
      quantize::quantize(*source, o.out,
                         {.mix = quantize::find_mix(o.type),
                          .allow_requantize = o.allow_requantize,
                          .replace = o.force,
                          .threads = o.threads > 0 ? o.threads : available_processors(),
                          .progress = progress_bar("quantizing"),
                          .stop = &interrupted});
  std::signal(SIGINT, before);
  std::signal(SIGTERM, term);
  if (!report) return report.error();
  std::string types;
  for (const auto& [type, sum] : report->types)
    types += fmt::format("\n  {:<8} {} tensors, {:.1f} MB", dtype_name(type), sum.first,
                         static_cast<double>(sum.second) / 1e6);
  out.print("{}: {:.1f} MB, from {:.1f} MB{}\n", o.out, static_cast<double>(report->bytes) / 1e6,
            static_cast<double>(report->source_bytes) / 1e6, types);
  if (report->fallbacks > 0)
    out.print("  {} tensors have rows that are no whole blocks: they took another type\n",
              report->fallbacks);
  if (!report->left_out.empty())
    out.print("  left out, since Hadal does not use them: {} tensors ({}, …)\n",
              report->left_out.size(), report->left_out.front());
  return {};
}

}  // namespace

void add_quantize(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("quantize", "write a model as a GGUF file in smaller types");
  c->add_option("IN", o->in, "a model folder as it was published, or a .gguf file")->required();
  c->add_option("OUT", o->out, "the .gguf file to write")->required();
  std::vector<std::string> names;
  for (const quantize::Mix& mix : quantize::mixes()) names.emplace_back(mix.name);
  c->add_option(
       "--type", o->type,
       "q8_0: almost as good, half of BF16; q6_k, q5_k_m, q4_k_m: smaller; q4_0: simplest; "
       "bf16, f32: not quantised. What is FP4 already stays so")
      ->required()
      ->check(CLI::IsMember(names));
  c->add_flag("--allow-requantize", o->allow_requantize,
              "also where a tensor is quantised already: quality is lost twice");
  c->add_flag("--force", o->force, "replace OUT if it exists");
  c->add_option("--threads", o->threads, "worker threads; 0: what this process may use")
      ->envname("HADAL_THREADS")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run(*o, out); }; });
}

}  // namespace hadal::app
