#include "command.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "device/plugins.h"
#include "input.h"
#include "session/vocabulary.h"
#include "world.h"

namespace hadal::app {

void declare_pre_tokenizer(CLI::App& command, std::string& name) {
  command
      .add_option("--pre-tokenizer", name,
                  "of a GGUF that does not name the one of its vocabulary, or the wrong one")
      ->group("Advanced")
      ->check(CLI::IsMember(pre_tokenizer_names()));
}

void print_notes(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) print_note("hadal: note: " + note);
}

void print_chip_line(std::string_view line) {
  std::string text(line);
  std::replace(text.begin(), text.end(), '\n', ' ');  // a line of a chip is no line of ours
  if (!text.empty()) print_note("hadal: chip: " + text);
}

namespace {

constexpr const char* kNoAdapter = "none";

/// "a=b" to (a, b); without a '=' the value is empty, and who takes it says what it makes of that.
std::pair<std::string, std::string> split_option(const std::string& option) {
  const size_t at = std::min(option.find('='), option.size());
  return {option.substr(0, at), option.substr(std::min(at + 1, option.size()))};
}

/// What is wrong with an argument of --lora.
std::string check_lora(const std::string& argument) {
  const auto [name, folder] = split_option(argument);
  if (name.empty() || folder.empty()) return "expected NAME=FOLDER, found " + argument;
  return name == kNoAdapter ? "an adapter cannot be called none" : "";
}

void declare_chip(CLI::App& command, ModelFlags& flags) {
  command
      .add_option("--chip", flags.chip,
                  "cpu, ref (the slow definition), a plug-in's name or its path")
      ->envname("HADAL_CHIP")
      ->capture_default_str();
  command.add_option("--device", flags.device, "which of the chip's devices (see: hadal chips)")
      ->envname("HADAL_DEVICE")
      ->check(CLI::Range(0, 9999))
      ->capture_default_str();
}

void declare_place_of(CLI::App& command, ModelFlags& flags, const char* group) {
  command
      .add_option(
          "--place", flags.place,
          "what runs on other devices: \"layers 20-: cpu\", \"experts: cpu; head: cpu\". "
          "Parts: layers A-B, experts, experts of layers A-B, embedding, head, all. auto: what "
          "the chip's memory does not hold goes to the cpu, experts or layers")
      ->envname("HADAL_PLACE")
      ->group(group);
}

/// What puts parts of a model on other devices.
void declare_devices(CLI::App& command, ModelFlags& flags, const char* group) {
  declare_place_of(command, flags, group);
  command
      .add_option("--fallback", flags.fallback,
                  "operators that the chip declines: forbid, so that the model is refused; allow, "
                  "so that the cpu computes them")
      ->envname("HADAL_FALLBACK")
      ->check(CLI::IsMember({"forbid", "allow"}))
      ->capture_default_str()
      ->group(group);
  command
      .add_option(
          "--ranks", flags.ranks,
          "divide the model over so many devices of the chip, or instances of one, by heads "
          "and experts; between processes: mpirun -n 4 hadal …")
      ->check(CLI::Range(1, 64))
      ->capture_default_str()
      ->group(group);
}

}  // namespace

std::vector<std::filesystem::path> chip_folders() {
  return plugin_folders([](const char* name) { return std::getenv(name); });
}

void ModelFlags::declare_place(CLI::App& command) {
  declare_chip(command, *this);
  declare_place_of(command, *this, "Options");
}

void ModelFlags::declare(CLI::App& command, Devices devices) {
  command.add_option("MODEL", path, "a .gguf file, or a folder with config.json and *.safetensors")
      ->required();
  declare_chip(command, *this);
  declare_devices(command, *this, devices == Devices::kSeveral ? "Options" : "");
  command.add_option("--kernels", kernels, "force a kernel table (see: hadal chips)")
      ->group("Advanced");
  command
      .add_option("--numerics", numerics,
                  "fastest: as the chip likes it; exact: activations unrounded where it can")
      ->check(CLI::IsMember({"fastest", "exact"}))
      ->group("Advanced");
  command.add_option("--chip-option", chip_options, "NAME=VALUE, an option of the chip's own")
      ->allow_extra_args(false)
      ->group("Advanced");
  command.add_option("--threads", threads, "worker threads; 0: what this process may use")
      ->envname("HADAL_THREADS")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command.add_option("--ctx", ctx, "context in tokens; by default what the call needs")
      ->envname("HADAL_CTX")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  command
      .add_option(
          "--cache-tokens", cache_tokens,
          "tokens that the caches hold, all sequences together, reserved at load; by default "
          "a whole context for each")
      ->envname("HADAL_CACHE_TOKENS")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  command.add_option("--kv-cache-dtype", kv_cache_dtype, "f32, bf16 or f16")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str();
  command
      .add_option("--weights", weights,
                  "native: as the file has them; f32: decoded at load, activations unrounded")
      ->check(CLI::IsMember({"native", "f32"}))
      ->capture_default_str();
  command
      .add_option("--v41-tail", v41_tail,
                  "DeepSeek-V4.1: rows of a prompt that its last layers run (published: 128); by "
                  "default as many as exactness needs")
      ->group("Advanced")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  command
      .add_option("--lora", lora,
                  "NAME=FOLDER, a low-rank adapter as peft writes it (may be repeated)")
      ->check(check_lora)
      ->allow_extra_args(false);
  declare_pre_tokenizer(command, pre_tokenizer);
}

Status ModelFlags::on_one_device(const std::string& command) const {
  std::string wrong;
  const auto add = [&](bool asked, const std::string& words) {
    if (asked) wrong += (wrong.empty() ? "" : ", ") + words;
  };
  const auto said = [](const char* option, const char* variable, const std::string& value) {
    const char* const set = std::getenv(variable);
    return set && value == set ? std::string("unset ") + variable
                               : std::string("leave out ") + option;
  };
  add(!place.empty(), said("--place", "HADAL_PLACE", place));
  add(fallback == "allow", said("--fallback", "HADAL_FALLBACK", fallback));
  add(ranks > 1, "leave out --ranks");
  add(world() != nullptr, "start it without mpirun");
  return wrong.empty() ? Status() : usage_error(command + " looks at one device: " + wrong);
}

void ModelFlags::declare_adapter(CLI::App& command) {
  command.add_option("--adapter", adapter,
                     "the adapter of --lora to use, or none; by default the only one there is");
}

void ModelFlags::declare_draft(CLI::App& command) {
  command
      .add_option(
          "--draft", draft,
          "guess tokens by the model's own layers for that (multi-token prediction, DSpark), "
          "which are loaded then: off; auto, as\nmany as pay; or a number. Guesses change no "
          "answer")
      ->check([](const std::string& value) -> std::string {
        const bool number = !value.empty() && value.size() < 3 &&
                            value.find_first_not_of("0123456789") == std::string::npos;
        return number || value == "off" || value == "auto" ? ""
                                                           : "expected off, auto or a number to 99";
      })
      ->capture_default_str();
}

void ModelFlags::declare_kv_file(CLI::App& command, const char* group) {
  command
      .add_option(
          "--kv-file", kv_file,
          "a file for computed prefixes: what memory has no room for, and at the end all; the "
          "next run goes on from it")
      ->group(group);
  command.add_option("--kv-file-size", kv_file_gb, "its largest size, in GB")
      ->check(CLI::Range(0.001, 100000.0))
      ->capture_default_str()
      ->group(group);
}

Result<std::string> ModelFlags::chosen_adapter() const {
  if (adapter) return *adapter == kNoAdapter ? std::string() : *adapter;
  if (lora.size() > 1)
    return usage_error(
        "several adapters are loaded: say which one by --adapter NAME, or --adapter none");
  return lora.empty() ? std::string() : split_option(lora[0]).first;
}

namespace {

std::vector<std::pair<std::string, std::string>> split_options(
    const std::vector<std::string>& options) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const std::string& option : options) pairs.push_back(split_option(option));
  return pairs;
}

}  // namespace

Status ModelFlags::join() const {
  HADAL_TRY(join_others());
  if (!world() || world()->rank() == 0) return {};
  std::unique_ptr<Checkpoint> checkpoint;
  RunnerOptions options;
  follow_and_end([&]() -> Result<RankModel> {
    if (!checkpoint) {
      HADAL_TRY(checkpoint, Checkpoint::open(path, {.pre_tokenizer = pre_tokenizer}));
      options = runner(*checkpoint, 0);
    }
    return RankModel{checkpoint.get(), &options};
  });
}

Result<std::unique_ptr<Checkpoint>> ModelFlags::open() const {
  HADAL_TRY(join());
  return Checkpoint::open(path, {.pre_tokenizer = pre_tokenizer});
}

RunnerOptions ModelFlags::runner(int64_t needed) const {
  RunnerOptions o;
  o.device = {.chip = chip,
              .index = device,
              .threads = threads,
              .kernels = kernels,
              .exact = numerics == "exact",
              .chip_options = split_options(chip_options),
              .plugin_folders = chip_folders(),
              .log = print_chip_line};
  o.place = place;
  o.fallback = fallback == "allow";
  o.rank_threads = ranks;
  o.ranks = world();
  o.weights = weights == "f32" ? WeightMode::kF32 : WeightMode::kNative;
  o.kv_cache_dtype = kv_cache_dtype == "f32"    ? HADAL_F32
                     : kv_cache_dtype == "bf16" ? HADAL_BF16
                                                : HADAL_F16;
  o.context = ctx.value_or(needed);
  o.cache_tokens = cache_tokens.value_or(0);
  o.tail_rows = v41_tail;
  for (const std::string& option : lora) {
    const auto [name, folder] = split_option(option);
    o.adapters.push_back({.name = name, .folder = folder});
  }
  return o;
}

RunnerOptions ModelFlags::runner(const Checkpoint& checkpoint, int64_t needed) const {
  RunnerOptions o = runner(needed);
  o.compressed_vocabulary = [&checkpoint] { return compressed_vocabulary(checkpoint); };
  return o;
}

SessionOptions ModelFlags::session(int64_t needed) const {
  SessionOptions options{.runner = runner(needed), .fit_context = !ctx && !cache_tokens};
  options.swap = {.file = kv_file,
                  .max_bytes = static_cast<uint64_t>(kv_file_gb * 1e9),
                  .log = [](std::string_view line) { print_note("hadal: " + std::string(line)); }};
  options.engine.log = options.swap.log;
  options.runner.draft = draft != "off" && draft != "0";
  if (options.runner.draft && draft != "auto") options.engine.draft_tokens = std::stoll(draft);
  return options;
}

Result<std::vector<int64_t>> parse_numbers(const std::string& text, const char* what, int64_t low,
                                           int64_t high) {
  std::vector<int64_t> numbers;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string word = text.substr(at, end - at);
    const auto first = word.find_first_not_of(' ');
    size_t used = 0;
    int64_t value = 0;
    try {
      value = std::stoll(word, &used);
    } catch (const std::exception&) {
      used = 0;
    }
    const bool clean = used > 0 && word.find_first_not_of(' ', used) == std::string::npos &&
                       first != std::string::npos;
    if (!clean) return usage_error(std::string(what) + ": '" + word + "' is no whole number");
    if (value < low || value > high)
      return usage_error(std::string(what) + ": " + word + " is outside " + std::to_string(low) +
                         " … " + std::to_string(high));
    numbers.push_back(value);
    at = end + 1;
    if (end + 1 == text.size())
      return usage_error(std::string(what) + ": a number is missing after the last comma");
  }
  return numbers;
}

Result<std::vector<int64_t>> parse_ids(const std::string& text) {
  std::string given = text;
  if (text == "-") {
    HADAL_TRY(given, read_stdin());
  }
  while (!given.empty() && (given.back() == '\n' || given.back() == '\r')) given.pop_back();
  return parse_numbers(given, "--ids", 0, INT32_MAX);
}

LoadProgress progress_bar(const char* what) {
  if (::isatty(STDERR_FILENO) == 0) return {};
  using Clock = std::chrono::steady_clock;
  return [what, start = Clock::now(), shown = false](uint64_t done, uint64_t total) mutable {
    const std::chrono::duration<double> elapsed = Clock::now() - start;
    if (total == 0 || (!shown && (elapsed.count() < 1 || done == total))) return;
    shown = true;
    constexpr int kWidth = 30;
    const int filled = static_cast<int>(done * kWidth / total);
    std::fprintf(stderr, "\r%s [%.*s%*s] %3d %%", what, filled, "##############################",
                 kWidth - filled, "", static_cast<int>(done * 100 / total));
    if (done == total) std::fprintf(stderr, "\r\033[K");
    std::fflush(stderr);
  };
}

}  // namespace hadal::app
