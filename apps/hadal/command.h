// What the subcommands share: how one is registered, how errors become exit codes, and the options
// that several take.
//
// A subcommand has an add_… function that declares its options and sets `run`, as a rule in a file
// of its own.
// stdout carries the result only; everything else goes to stderr. Exit codes: 0 ok, 1 failed, 2
// wrong usage, 3 memory or context too small, 4 path or name not found, 130 interrupted.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "output.h"
#include "session/session.h"

namespace hadal::app {

/// What main runs after parsing: the chosen subcommand's work. Its result goes to the output.
using Run = std::function<Status(Output&)>;

void add_run(CLI::App& app, Run& run);
void add_generate(CLI::App& app, Run& run);
void add_logits(CLI::App& app, Run& run);
void add_tokenize(CLI::App& app, Run& run);
void add_encode(CLI::App& app, Run& run);
void add_parse(CLI::App& app, Run& run);
void add_inspect(CLI::App& app, Run& run);
void add_plan(CLI::App& app, Run& run);
void add_quantize(CLI::App& app, Run& run);
void add_batch(CLI::App& app, Run& run);
/// `arguments`: the program's own.
void add_serve(CLI::App& app, Run& run, std::vector<std::string> arguments);
void add_bench(CLI::App& app, Run& run);
void add_chip(CLI::App& app, Run& run);
/// Of `hadal chip`.
void add_distance(CLI::App& chip, Run& run);
void add_chips(CLI::App& app, Run& run);
void add_doctor(CLI::App& app, Run& run);
void add_conversations(CLI::App& app, Run& run);
void add_version(CLI::App& app, Run& run);
void add_completion(CLI::App& app, Run& run);

/// Declares --lang, of commands that speak the languages of messages.h.
void declare_language(CLI::App& command, std::string& language);

/// Declares --pre-tokenizer.
void declare_pre_tokenizer(CLI::App& command, std::string& name);

/// Prints on stderr what the file leaves out or holds for nothing; called when the model is known
/// to be sound, since a refusal is one line.
void print_notes(const std::vector<std::string>& notes);

/// Where chips that are given by name are looked for, by the user's environment (device/plugins.h).
std::vector<std::filesystem::path> chip_folders();

/// Prints on stderr what a chip logs.
void print_chip_line(std::string_view line);

/// Options of every command that runs a model.
struct ModelFlags {
  /// What a command looks at: then its help does not offer several devices.
  enum class Devices { kSeveral, kOne };

  std::string path;
  std::string chip = "cpu";
  int32_t device = 0;  ///< which of the chip's devices
  std::string place;   ///< --place
  std::string fallback = "forbid";
  int64_t ranks = 1;  ///< --ranks
  std::string kernels;
  std::string numerics = "fastest";
  std::vector<std::string> chip_options;
  int32_t threads = 0;
  std::string kv_cache_dtype = "f16";
  std::string weights = "native";
  std::string pre_tokenizer;
  std::optional<int64_t> ctx, cache_tokens, v41_tail;
  std::vector<std::string> lora;  ///< "NAME=FOLDER"
  std::string draft = "off";      ///< --draft, where it is declared: off, auto, or a number
  std::string kv_file;            ///< --kv-file, where it is declared
  double kv_file_gb = 8;
  std::optional<std::string> adapter;  ///< --adapter, where it is declared

  void declare(CLI::App& command, Devices devices = Devices::kSeveral);
  /// Declares --chip, --device and --place alone.
  void declare_place(CLI::App& command);
  /// An error if several devices are asked for, which `command` does not look at: it names the
  /// options, or the variables that stand for them. After join().
  [[nodiscard]] Status on_one_device(const std::string& command) const;
  /// Declares --adapter: of a command that runs one request.
  void declare_adapter(CLI::App& command);
  /// Declares --draft: of a command that generates.
  void declare_draft(CLI::App& command);
  /// Declares --kv-file and --kv-file-size.
  void declare_kv_file(CLI::App& command, const char* group);
  /// The name of the adapter that the request uses, "" for none: the one that was named, else the
  /// only one there is.
  [[nodiscard]] Result<std::string> chosen_adapter() const;
  /// Of a process that mpirun started: joins the others, and returns in rank 0 alone. To be called
  /// before a command reads standard input, touches a file or refuses anything.
  Status join() const;
  /// Joins as well.
  [[nodiscard]] Result<std::unique_ptr<Checkpoint>> open() const;
  /// Runner options; `needed` is the context that the call needs, used where --ctx is not given.
  [[nodiscard]] RunnerOptions runner(int64_t needed) const;
  /// The same with what the model may need of the checkpoint's tokenizer; it must outlive them.
  [[nodiscard]] RunnerOptions runner(const Checkpoint& checkpoint, int64_t needed) const;
  /// The same for a session that makes do with a shorter context where memory is short.
  [[nodiscard]] SessionOptions session(int64_t needed) const;
};

/// Help text of --chat-format: `what`, then the formats with their descriptions.
std::string chat_format_help(std::string_view what = "chat format, instead of the one recognised:");

/// A list like "1,2,3"; an empty text is an empty list. `what` names it in messages.
Result<std::vector<int64_t>> parse_numbers(const std::string& text, const char* what, int64_t low,
                                           int64_t high);

/// The ids that --ids gives; "-": from standard input, since an argument has its limit.
Result<std::vector<int64_t>> parse_ids(const std::string& text);

/// A progress bar on a terminal for what takes longer than a second.
LoadProgress progress_bar(const char* what = "loading");

}  // namespace hadal::app
