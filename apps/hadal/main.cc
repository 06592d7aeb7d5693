// The hadal program: arguments in, one subcommand run, an exit code out.
#include <csignal>
#include <exception>
#include <sstream>
#include <string>

#include "checkpoint/printable.h"
#include "command.h"
#include "hadal/version.h"
#include "output.h"
#include "shrunk_file.h"
#include "world.h"

namespace hadal::app {
namespace {

int main_guarded(int argc, char** argv) {
  CLI::App app(
      "Hadal runs DeepSeek's models on whatever chip is there.\n\n  hadal run MODEL \"question\"   "
      "  ask a model\n  hadal run MODEL                chat with it\n",
      "hadal");
  app.set_version_flag("--version", "hadal " HADAL_VERSION);
  app.require_subcommand(1);
  app.footer(
      "hadal COMMAND --help tells a command's options. Exit codes: 0 ok, 1 failed, 2 wrong usage, "
      "3 memory or context\ntoo small, 4 path or name not found, 130 interrupted.");
  app.get_formatter()->column_width(34);
  Output out;
  Run run;
  add_run(app, run);
  add_generate(app, run);
  add_serve(app, run, {argv, argv + argc});
  add_batch(app, run);
  add_logits(app, run);
  add_tokenize(app, run);
  add_encode(app, run);
  add_parse(app, run);
  add_inspect(app, run);
  add_plan(app, run);
  add_quantize(app, run);
  add_bench(app, run);
  add_chip(app, run);
  add_chips(app, run);
  add_doctor(app, run);
  add_conversations(app, run);
  add_version(app, run);
  add_completion(app, run);
  const std::string first = argc < 2 ? "" : argv[1];
  bool known = first == "-h" || first == "--help" || first == "--version";
  std::string commands;
  for (const CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) {
    known = known || command->get_name() == first;
    commands += (commands.empty() ? "" : ", ") + command->get_name();
  }
  if (!known) {
    const std::string given =
        first.empty() ? "no command" : "unknown command '" + printable(first, 40) + "'";
    let_rank_0_speak();
    print_error(given + "; the commands are " + commands + " (hadal --help tells more)");
    return static_cast<int>(ErrorCode::kUsage);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    std::ostringstream text;
    (void)app.exit(e, text, text);
    out.write(text.str());
  } catch (const CLI::ParseError& e) {
    std::string command;
    const CLI::App* at = &app;
    while (!at->get_subcommands().empty()) {
      at = at->get_subcommands().front();
      command += at->get_name() + " ";
    }
    let_rank_0_speak();
    print_error(std::string(e.what()) + " (hadal " + command + "--help tells more)");
    return static_cast<int>(ErrorCode::kUsage);
  }
  Status status = run ? run(out) : Status{};
  if (Status written = out.finish(); status) status = std::move(written);
  if (!status) {
    let_rank_0_speak();
    print_error(status.error());
  }
  if (Status left = leave_others(); !left && status) {
    status = std::move(left);
    print_error(status.error());
  }
  if (status) return 0;
  return static_cast<int>(status.error().code);
}

}  // namespace
}  // namespace hadal::app

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  hadal::app::name_shrunk_files();
  hadal::app::reserve_standard_descriptors();
  try {
    return hadal::app::main_guarded(argc, argv);
  } catch (const std::bad_alloc&) {
    hadal::app::print_error("out of memory");
    return static_cast<int>(hadal::ErrorCode::kMemory);
  } catch (const std::exception& e) {
    hadal::app::print_error(e.what());
    return static_cast<int>(hadal::ErrorCode::kFailed);
  }
}
