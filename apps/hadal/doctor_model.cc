// What `hadal doctor MODEL` looks at: the file, how the chip takes it, memory and disk.
#include <fmt/format.h>

#include <algorithm>

#include "base/disk.h"
#include "base/text.h"
#include "command.h"
#include "doctor.h"
#include "quantize/quantize.h"

namespace hadal::app {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kContext = 8192;  ///< that is planned for, or the model's if that is shorter
constexpr uint64_t kLeastDisk = 1ULL << 30;

std::string mib(uint64_t bytes) {
  return fmt::format("{:.0f}", static_cast<double>(bytes) / (1024 * 1024));
}

/// The model's file, or the largest one in its folder.
fs::path largest_file(const fs::path& model) {
  std::error_code error;
  if (!fs::is_directory(model, error)) return model;
  fs::path largest;
  uint64_t most = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(model, error)) {
    const uint64_t size = entry.is_regular_file(error) ? entry.file_size(error) : 0;
    if (size > most) largest = entry.path(), most = size;
  }
  return largest;
}

/// The folder of a path, or the first one above it that is there.
fs::path nearest_folder(const fs::path& path) {
  std::error_code unused;
  fs::path folder = fs::absolute(path, unused).parent_path();
  while (folder.has_relative_path() && !fs::exists(folder, unused)) folder = folder.parent_path();
  return folder;
}

Finding broken(const char* check, Message label, const Error& error, const std::string& command) {
  return {.check = check,
          .label = label,
          .verdict = error.code == ErrorCode::kNotFound ? Verdict::kMissing : Verdict::kWrong,
          .needed = true,
          .text = Message::kModelBroken,
          .arguments = {error.message},
          .command = command};
}

void check_disk(const fs::path& model, Findings& out) {
  const fs::path file = largest_file(model);
  std::error_code error;
  const fs::space_info space = fs::space(file, error);
  if (error) return;
  const std::optional<double> speed = disk_bytes_per_second(file, 0.5);
  const std::string free =
      fmt::format("{:.1f}", static_cast<double>(space.available) / (1024.0 * 1024 * 1024));
  Finding f{.check = "disk", .label = Message::kDisk};
  if (space.available < kLeastDisk) {
    f.verdict = Verdict::kWrong;
    f.text = Message::kDiskFull;
    f.arguments = {mib(space.available)};
    f.command = "df -h " + shell_word(file.string());
  } else if (speed) {
    f.text = Message::kDiskText;
    f.arguments = {fmt::format("{:.0f}", *speed / 1e6), free};
  } else {
    f.text = Message::kDiskUnmeasured;
    f.arguments = {free};
  }
  out.push_back(std::move(f));
}

/// `hadal VERB MODEL` on the chip, the device and the place that the user chose.
std::string command_for(const char* verb, const ModelFlags& model) {
  std::string text =
      fmt::format("hadal {} {} --chip {}", verb, shell_word(model.path), shell_word(model.chip));
  if (model.device != 0) text += fmt::format(" --device {}", model.device);
  if (!model.place.empty()) text += " --place " + shell_word(model.place);
  return text;
}

/// The command that runs where `model` does not open; "" where none does.
std::string other_way(const Checkpoint& checkpoint, const ModelFlags& model, int64_t context,
                      bool chip_opens) {
  const auto opens = [&](const ModelFlags& flags) {
    RunnerOptions options = flags.runner(checkpoint, context);
    options.max_sequences = options.max_logit_rows = 1;
    const auto runner = ModelRunner::open(checkpoint, options);
    return runner && (*runner)->check_memory();
  };
  ModelFlags helped = model, alone = model;
  helped.fallback = "allow";
  if (chip_opens && opens(helped)) return command_for("plan", model) + " --fallback allow";
  alone.chip = "cpu";
  alone.device = 0;
  alone.place.clear();
  return opens(alone) ? command_for("plan", alone) : "";
}

/// The command that writes the model small enough for the memory that there is; "" where none does:
/// the finest type that fits. What the chip converts takes its room whatever the file holds.
std::string smaller_file(const Checkpoint& checkpoint, const ModelRunner& runner,
                         const ChipFacts& chip, const std::string& path) {
  const MemoryPlan plan = runner.memory_plan();
  const uint64_t rest = plan.total() - plan.weights;  // beside the weights
  if (!runner.conversions().empty() || rest > plan.available) return {};
  uint64_t stored = 0;
  for (const MappedFile& file : checkpoint.files()) stored += file.bytes().size();
  for (const char* type : {"q8_0", "q6_k", "q5_k_m", "q4_k_m"}) {
    const quantize::Mix* mix = quantize::find_mix(type);
    if (!chip.stored_types.contains(std::string(dtype_name(mix->base)))) continue;
    const auto bytes = quantize::written_bytes(checkpoint, {.mix = mix});
    if (bytes && *bytes < stored && *bytes <= plan.available - rest)
      return fmt::format("hadal quantize {} smaller.gguf --type {}", shell_word(path), type);
  }
  return {};
}

void check_memory(const Checkpoint& checkpoint, const ModelRunner& runner, const ChipFacts& chip,
                  const ModelFlags& model, Findings& out) {
  const MemoryPlan plan = runner.memory_plan();
  Finding f{
      .check = "model_memory",
      .label = Message::kMemory,
      .text = Message::kModelFits,
      .arguments = {mib(plan.total()), mib(plan.available), fmt::to_string(runner.context())}};
  if (const Status fits = runner.check_memory(); !fits) {
    const Error& error = fits.error();
    f.verdict = Verdict::kWrong;
    f.needed = true;
    f.text = Message::kModelTooLarge;
    f.arguments[0] = mib(plan.needed());
    f.command = error.setting == Setting::kContext && error.suggestion > 0
                    ? fmt::format("{} --ctx {}", command_for("run", model), error.suggestion)
                    : smaller_file(checkpoint, runner, chip, model.path);
  } else if (const auto disk = runner.from_disk(0)) {
    f.text = Message::kModelFromDisk;
    f.arguments = {disk->text()};
  }
  out.push_back(std::move(f));
}

void check_conversions(const ModelRunner& runner, Findings& out) {
  const std::vector<std::string> lines = runner.conversions();
  for (const std::string& line : lines)
    out.push_back({.check = "model_conversion",
                   .label = Message::kModelConverted,
                   .text = Message::kModelConvertedText,
                   .arguments = {line}});
  if (lines.empty())
    out.push_back({.check = "model_conversion",
                   .label = Message::kModelConverted,
                   .text = Message::kModelAsStored});
}

}  // namespace

Findings check_model(const ModelFlags& model, const ChipFacts& chip) {
  Findings out;
  const std::string& path = model.path;
  const auto checkpoint = model.open();
  if (!checkpoint) {
    const bool absent = checkpoint.error().code == ErrorCode::kNotFound;
    out.push_back(broken("model", Message::kModelOpens, checkpoint.error(),
                         absent ? "ls " + shell_word(nearest_folder(path).string())
                                : "hadal inspect " + shell_word(path)));
    return out;
  }
  out.push_back({.check = "model",
                 .label = Message::kModelOpens,
                 .text = Message::kModelOpensText,
                 .arguments = {path}});
  for (const std::string& note : (*checkpoint)->notes())
    out.push_back({.check = "model_note",
                   .label = Message::kModelNote,
                   .text = Message::kModelNoteText,
                   .arguments = {note}});
  check_disk(path, out);
  const auto limit = model_context(**checkpoint);
  if (!limit) {
    out.push_back(broken("model_plan", Message::kModelPlan, limit.error(), ""));
    return out;
  }
  const int64_t context = std::min(*limit, kContext);
  RunnerOptions options = model.runner(**checkpoint, context);
  options.max_sequences = options.max_logit_rows = 1;
  // A chip that crashes when it is opened did so in a child; here it would end the doctor.
  const auto runner = chip.fault.empty() ? ModelRunner::open(**checkpoint, options)
                                         : Result<std::unique_ptr<ModelRunner>>(failed(chip.fault));
  if (!runner) {
    out.push_back(broken("model_plan", Message::kModelPlan, runner.error(),
                         other_way(**checkpoint, model, context, chip.fault.empty())));
    return out;
  }
  const Device& device = (*runner)->device();
  out.push_back({.check = "model_plan",
                 .label = Message::kModelPlan,
                 .text = Message::kModelPlanText,
                 .arguments = {std::string(device.chip_name()), device.info().kernels}});
  check_conversions(**runner, out);
  check_memory(**checkpoint, **runner, chip, model, out);
  return out;
}

}  // namespace hadal::app
