#include "checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <system_error>

#include "checkpoint/builder.h"
#include "checkpoint/printable.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;

/// The first bytes of a file, for telling what it is.
Result<std::string> first_bytes(const fs::path& path) {
  HADAL_TRY(const MappedFile file, MappedFile::open(path));
  const auto bytes = file.bytes().first(std::min<size_t>(file.bytes().size(), 4));
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

bool ends_with(const fs::path& path, std::string_view end) {
  return path.filename().string().ends_with(end);
}

/// The GGUF models of a folder, a split one by its first part. Empty where there are *.safetensors:
/// then the GGUFs are copies.
Result<std::vector<std::string>> gguf_models(const fs::path& folder) {
  std::vector<std::string> models;
  HADAL_TRY(const std::vector<std::string> names, files_of(folder));
  for (const std::string& name : names) {
    if (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"))
      return std::vector<std::string>();
    if (!name.ends_with(".gguf")) continue;
    const auto split = parse_split_name(name);
    std::string model = split ? split->name(1) : name;
    if (std::find(models.begin(), models.end(), model) == models.end())
      models.push_back(std::move(model));
  }
  return models;
}

Result<std::unique_ptr<Checkpoint>> open_folder(const fs::path& folder,
                                                const OpenOptions& options) {
  HADAL_TRY(const std::vector<std::string> models, gguf_models(folder));
  if (models.empty()) return open_safetensors(folder);
  if (models.size() == 1) return open_gguf(folder / models[0], options);
  std::vector<std::string> names;
  for (const std::string& name : models) names.push_back(quote(name));
  return failed(fmt::format("{}: holds {} GGUF models; give one of them: {}", folder.string(),
                            models.size(), listed(names)));
}

Result<std::unique_ptr<Checkpoint>> open_any(const fs::path& path, const OpenOptions& options) {
  std::error_code error;
  if (fs::is_directory(path, error)) return open_folder(path, options);
  if (ends_with(path, ".safetensors") || ends_with(path, ".safetensors.index.json")) {
    HADAL_TRY(first_bytes(path));  // a missing file is reported as such, not as an empty folder
    const fs::path folder = path.parent_path();
    return open_safetensors(folder.empty() ? fs::path(".") : folder);
  }
  HADAL_TRY(const std::string magic, first_bytes(path));
  if (magic == "GGUF" || ends_with(path, ".gguf")) return open_gguf(path, options);
  return failed(
      fmt::format("{}: no model: expected a GGUF file or a folder with config.json and "
                  "*.safetensors, found a file that begins with {}",
                  path.string(), quote(magic)));
}

}  // namespace

Result<std::vector<std::string>> files_of(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(folder, error); !error && at != fs::directory_iterator();
       at.increment(error)) {
    std::string name = at->path().filename().string();
    if (!name.starts_with('.')) names.push_back(std::move(name));
  }
  if (error)
    return failed(fmt::format("{}: cannot list the folder: {}", folder.string(), error.message()));
  std::sort(names.begin(), names.end());
  return names;
}

int64_t TensorInfo::elements() const {
  CheckedSize count(1);
  for (const int64_t dim : shape) count = count * CheckedSize(static_cast<uint64_t>(dim));
  return count.get_or(0);  // the readers have refused shapes that overflow
}

std::string TensorInfo::shape_text() const { return fmt::format("[{}]", fmt::join(shape, ", ")); }

Result<std::unique_ptr<Checkpoint>> Checkpoint::open(const std::filesystem::path& path,
                                                     const OpenOptions& options) {
  try {
    auto opened = open_any(path, options);
    if (opened && !options.pre_tokenizer.empty() && (*opened)->format() != CheckpointFormat::kGguf)
      return usage_error(fmt::format(
          "{}: pre-tokenizer {} was named for it, but the tokenizer.json of a folder holds its own",
          path.string(), quote(options.pre_tokenizer, 40)));
    return opened;
  } catch (const std::bad_alloc&) {
    return memory_error(path.string() + ": not enough memory for its header");
  } catch (const fs::filesystem_error& error) {
    return failed(path.string() + ": " + error.code().message());
  }
}

Result<std::unique_ptr<Checkpoint>> Checkpoint::open(MappedFile file, const OpenOptions& options) {
  const std::string name = file.path().string();
  try {
    return open_gguf(std::move(file), options);
  } catch (const std::bad_alloc&) {
    return memory_error(name + ": not enough memory for its header");
  }
}

std::string Checkpoint::description() const {
  const std::string name =
      format_ == CheckpointFormat::kGguf ? fmt::format("GGUF v{}", gguf_version_) : "safetensors";
  return fmt::format("{}, {} file{}", name, files_.size(), files_.size() == 1 ? "" : "s");
}

const TensorInfo* Checkpoint::find(std::string_view official_name) const {
  const auto it = by_name_.find(official_name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

std::unique_ptr<Checkpoint> CheckpointBuilder::make(CheckpointFormat format, const fs::path& path) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint());
  checkpoint->format_ = format;
  checkpoint->path_ = path;
  return checkpoint;
}

Status CheckpointBuilder::add_tensor(Checkpoint& checkpoint, TensorInfo tensor) {
  const auto [place, fresh] = checkpoint.by_name_.emplace(tensor.name, checkpoint.tensors_.size());
  if (!fresh) {
    const TensorInfo& other = checkpoint.tensors_[place->second];
    return failed(fmt::format("{}: tensor {} is there twice: also as {} in {}",
                              checkpoint.files_[tensor.file].path().string(),
                              quote(tensor.file_name), quote(other.file_name),
                              checkpoint.files_[other.file].path().filename().string()));
  }
  checkpoint.tensors_.push_back(std::move(tensor));
  return {};
}

void CheckpointBuilder::rename_tensor(Checkpoint& checkpoint, const std::string& from,
                                      const std::string& to) {
  auto node = checkpoint.by_name_.extract(from);
  node.key() = to;
  checkpoint.tensors_[node.mapped()].name = to;
  checkpoint.by_name_.insert(std::move(node));
}

std::string SplitName::name(int32_t part) const {
  return fmt::format("{}-{:05}-of-{:05}{}", prefix, part, count, extension);
}

std::optional<SplitName> parse_split_name(std::string_view file_name) {
  const size_t dot = file_name.rfind('.');
  constexpr std::string_view kShape = "-00000-of-00000";
  if (dot == std::string_view::npos || dot < kShape.size()) return std::nullopt;
  const std::string_view tail = file_name.substr(dot - kShape.size(), kShape.size());
  SplitName split;
  for (size_t i = 0; i < kShape.size(); ++i) {
    const char c = tail[i];
    if (kShape[i] != '0' ? c != kShape[i] : c < '0' || c > '9') return std::nullopt;
    if (kShape[i] == '0')
      (i < 6 ? split.number : split.count) = (i < 6 ? split.number : split.count) * 10 + (c - '0');
  }
  if (split.number < 1 || split.number > split.count) return std::nullopt;
  split.prefix = file_name.substr(0, dot - kShape.size());
  split.extension = file_name.substr(dot);
  return split;
}

}  // namespace hadal
