// hadal chip test, hadal chip compare: the conformance kit, a program of its own that lies beside
// this one, so that a chip that crashes or lies never shares a process with a model. hadal chip
// trace: where a chip leaves the reference on a real model, operator by operator.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "checkpoint/printable.h"
#include "command.h"
#include "device/plugins.h"
#include "engine/engine.h"
#include "engine/tracer.h"
#include "world.h"

namespace hadal::app {
namespace {

constexpr const char* kKit = "hadal-conformance";

/// Beside this program, or in libexec of the same prefix.
Result<std::string> find_kit() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return failed("/proc/self/exe cannot be read: " + error.message());
  const std::filesystem::path folder = self.parent_path();
  std::string places;
  for (const auto& place : {folder / kKit, folder.parent_path() / "libexec" / "hadal" / kKit}) {
    if (::access(place.c_str(), X_OK) == 0) return place.string();
    places += (places.empty() ? "" : " or ") + place.string();
  }
  return failed("the conformance kit is not installed: expected " + printable(places, 400) +
                "; build the target hadal-conformance");
}

/// A plug-in may be given by its name, as everywhere: the kit takes paths.
Status find_chip(std::vector<std::string>& words) {
  if (words.empty() || words[0].starts_with('-')) return {};
  std::string& chip = words[0];
  const auto builtin = builtin_chips();
  if (std::find(builtin.begin(), builtin.end(), chip) != builtin.end()) return {};
  HADAL_TRY(const std::filesystem::path file, find_plugin(chip, chip_folders()));
  HADAL_TRY(check_plugin(file));
  chip = file.string();
  return {};
}

/// `command`: of the kit; `words`: what the user wrote behind it.
Status run_kit(const std::string& command, std::vector<std::string> words, Output& out) {
  std::vector<std::string> arguments = {"hadal chip", command};
  if (command == "test") {
    HADAL_TRY(find_chip(words));
    // The kit runs real models by this very program.
    std::error_code error;
    const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
    if (!error) arguments.insert(arguments.end(), {"--hadal", self.string()});
  }
  HADAL_TRY(std::string kit, find_kit());
  HADAL_TRY(out.flush());
  arguments.insert(arguments.end(), words.begin(), words.end());
  std::vector<char*> raw;
  for (std::string& a : arguments) raw.push_back(a.data());
  raw.push_back(nullptr);
  ::execv(kit.c_str(), raw.data());
  return failed(printable(kit, 200) + " does not start: " + std::strerror(errno));
}

/// A command of the kit, which reads its options itself.
void add_kit(CLI::App& chip, Run& chosen, const std::string& name, const std::string& what) {
  CLI::App* c = chip.add_subcommand(name, what);
  c->set_help_flag();  // the kit has its own
  c->prefix_command();
  c->callback([c, name, &chosen] {
    chosen = [name, words = c->remaining()](Output& out) { return run_kit(name, words, out); };
  });
}

}  // namespace

namespace {

struct TraceOptions {
  ModelFlags model;
  std::string ids = "1,2,3,4,5,6,7,8";
  int64_t new_tokens = 2;
};

std::string place_of(const Tracer::Finding& f) {
  using Part = Region::Part;
  std::string part = f.region.part == Part::kHead ? "the head"
                     : f.region.part == Part::kEmbedding
                         ? "the embedding"
                         : "layer " + std::to_string(f.region.layer);
  if (f.region.part == Part::kExperts) part = "the experts of " + part;
  return part;
}

void print_trace(Output& out, const Tracer& tracer) {
  out.print("{:<18} {:>9} {:>5} {:>12}  {:<12} {}\n", "", "operators", "off", "worst", "class",
            "where it is worst");
  for (const auto& [name, total] : tracer.totals()) {
    const Tracer::Finding& worst = total.worst;
    out.print("{:<18} {:>9} {:>5} {:>12.3g}  {:<12} {}\n", name, total.operators, total.off,
              worst.ratio, worst.numerics,
              worst.ratio > 0
                  ? fmt::format("{}, step {}, row {}", place_of(worst), worst.step, worst.row)
                  : std::string("nowhere: equal"));
  }
  out.print("worst: distance of a row from the exact result, as a part of what its class allows\n");
}

/// Runs the request; where its numbers are not finite, why.
Status run_steps(Engine& engine, Request request) {
  HADAL_TRY(engine.add(std::move(request)));
  while (!engine.idle()) {
    HADAL_TRY(const std::vector<TokenEvent> events, engine.step());
    for (const TokenEvent& event : events)
      if (event.error) return *event.error;
  }
  return {};
}

Status run_trace(const TraceOptions& o, Output& out) {
  HADAL_TRY(o.model.join());
  HADAL_TRY(o.model.on_one_device("hadal chip trace"));
  HADAL_TRY(const std::unique_ptr<Checkpoint> checkpoint, o.model.open());
  HADAL_TRY(const std::vector<int64_t> ids, parse_ids(o.ids));
  if (ids.empty()) return usage_error("--ids: at least one token is needed");
  RunnerOptions options =
      o.model.runner(*checkpoint, static_cast<int64_t>(ids.size()) + o.new_tokens + 1);
  options.max_sequences = 1;
  options.max_tokens =
      std::max<int64_t>(1, std::min<int64_t>(512, static_cast<int64_t>(ids.size())));
  options.lower_all = true;
  HADAL_TRY(std::unique_ptr<Engine> engine, Engine::load(*checkpoint, options, progress_bar()));
  Tracer tracer(*checkpoint, engine->runner());
  engine->runner().run_by(&tracer);
  Request request;
  request.prompt.assign(ids.begin(), ids.end());
  request.max_new_tokens = o.new_tokens;
  request.sampling.temperature = 0;
  const Status ran = run_steps(*engine, std::move(request));
  print_trace(out, tracer);
  // What the chip does wrong goes before what comes of it.
  if (!tracer.first()) {
    if (ran) out.print("no operator leaves the reference\n");
    return ran;
  }
  const Tracer::Finding& f = *tracer.first();
  return failed(fmt::format(
      "the first operator that leaves the reference is number {} of step {}, {}, in {}: row {}, "
      "number {} is {}, expected {}; {:.3g} times as far off as {} allows",
      f.operator_number, f.step, f.operands, place_of(f), f.row, f.column, f.found, f.expected,
      f.ratio, f.numerics));
}

void add_trace(CLI::App& chip, Run& chosen) {
  auto o = std::make_shared<TraceOptions>();
  CLI::App* c = chip.add_subcommand(
      "trace",
      "where a chip leaves the reference on a real model: the first operator, layer and row");
  o->model.declare(*c, ModelFlags::Devices::kOne);
  c->add_option("--ids", o->ids, "the prompt's tokens, commas between; -: from standard input")
      ->capture_default_str();
  c->add_option("-n,--max-new", o->new_tokens, "tokens that are generated behind it")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run_trace(*o, out); }; });
}

}  // namespace

void add_chip(CLI::App& app, Run& chosen) {
  CLI::App* c = app.add_subcommand(
      "chip", "is a chip right? test, compare, trace, distance (hadal chip --help tells more)");
  add_kit(*c, chosen, "test",
          "./libhadal_X.so: does a chip keep the contract, how exactly does it compute, how fast, "
          "and which models run on it (hadal chip test --help tells more)");
  add_kit(*c, chosen, "compare",
          "A.json B.json: what changed between two such tests; exit status 1 if the second passes "
          "less");
  add_trace(*c, chosen);
  add_distance(*c, chosen);
  c->allow_extras();  // behind its commands, which would inherit it
  c->callback([c, &chosen] {
    if (!c->get_subcommands().empty()) return;
    const std::string found = c->remaining().empty() ? "nothing" : c->remaining()[0];
    chosen = [found](Output&) -> Status {
      return usage_error("hadal chip: expected test, compare, trace or distance, found " +
                         printable(found, 40) + " (hadal chip --help tells more)");
    };
  });
}

}  // namespace hadal::app
