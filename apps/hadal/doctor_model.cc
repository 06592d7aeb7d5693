// What `hadal doctor MODEL` looks at: the file, how the chip takes it, memory and disk.
#include <fmt/format.h>

#include <algorithm>

#include "base/disk.h"
#include "checkpoint/printable.h"
#include "command.h"
#include "doctor.h"

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
    f.command = fmt::format("df -h '{}'", file.string());
  } else if (speed) {
    f.text = Message::kDiskText;
    f.arguments = {fmt::format("{:.0f}", *speed / 1e6), free};
  } else {
    f.text = Message::kDiskUnmeasured;
    f.arguments = {free};
  }
  out.push_back(std::move(f));
}

void check_memory(const ModelRunner& runner, const std::string& path, Findings& out) {
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
                    ? fmt::format("hadal run '{}' --ctx {}", path, error.suggestion)
                    : fmt::format("hadal quantize '{}' smaller.gguf --type q4_k_m", path);
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

Findings check_model(const std::string& path, const std::string& chip) {
  Findings out;
  ModelFlags model;
  model.path = path;
  model.chip = chip;
  const std::string plan = fmt::format("hadal plan '{}' --chip {}", path, chip);
  const auto checkpoint = model.open();
  if (!checkpoint) {
    const bool absent = checkpoint.error().code == ErrorCode::kNotFound;
    out.push_back(broken("model", Message::kModelOpens, checkpoint.error(),
                         absent ? fmt::format("ls '{}'", fs::path(path).parent_path().string())
                                : fmt::format("hadal inspect '{}'", path)));
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
    out.push_back(broken("model_plan", Message::kModelPlan, limit.error(), plan));
    return out;
  }
  RunnerOptions options = model.runner(**checkpoint, std::min(*limit, kContext));
  options.max_sequences = options.max_logit_rows = 1;
  const auto runner = ModelRunner::open(**checkpoint, options);
  if (!runner) {
    out.push_back(
        broken("model_plan", Message::kModelPlan, runner.error(),
               chip == "cpu" ? plan : fmt::format("hadal plan '{}' --fallback allow", path)));
    return out;
  }
  const Device& device = (*runner)->device();
  out.push_back({.check = "model_plan",
                 .label = Message::kModelPlan,
                 .text = Message::kModelPlanText,
                 .arguments = {std::string(device.chip_name()), device.info().kernels}});
  check_conversions(**runner, out);
  check_memory(**runner, path, out);
  return out;
}

}  // namespace hadal::app
