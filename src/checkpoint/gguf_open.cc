// A GGUF file, with the other files of its split, as a Checkpoint.
#include <fmt/format.h>

#include <system_error>

#include "checkpoint/builder.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_tokenizer.h"
#include "checkpoint/names.h"
#include "checkpoint/printable.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;

/// What a file says about the split it belongs to; a whole model says nothing or "one".
struct Split {
  int64_t number = 0;  ///< from 0
  int64_t count = 1;
  std::optional<int64_t> tensors;  ///< of all files together
};

Result<std::optional<int64_t>> whole_number(const GgufFile& file, std::string_view key,
                                            int64_t high, const std::string& origin) {
  const GgufValue* value = file.find(key);
  if (!value) return std::optional<int64_t>();
  const auto number = value->integer();
  if (!number || *number < 0 || *number > high)
    return failed(fmt::format("{}: key {}: expected a whole number from 0 to {}, found {}", origin,
                              quote(key), high, value->description()));
  return number;
}

Result<Split> split_of(const GgufFile& file, const std::string& origin) {
  Split split;
  HADAL_TRY(const auto count, whole_number(file, "split.count", 65535, origin));
  HADAL_TRY(const auto number, whole_number(file, "split.no", 65535, origin));
  HADAL_TRY(split.tensors, whole_number(file, "split.tensors.count", INT32_MAX, origin));
  split.count = std::max<int64_t>(count.value_or(1), 1);
  split.number = number.value_or(0);
  if (split.number >= split.count)
    return failed(fmt::format(
        "{}: key \"split.no\": expected less than the {} files of \"split.count\", found {}",
        origin, split.count, split.number));
  return split;
}

/// One mapped and parsed file. The views in `header` point into `file`'s mapping, which moves with
/// it and stays in place.
struct Part {
  MappedFile file;
  GgufFile header;
};

Result<Part> open_part(const fs::path& path) {
  HADAL_TRY(MappedFile file, MappedFile::open(path));
  HADAL_TRY(GgufFile header, parse_gguf(file.bytes(), path.string()));
  return Part{std::move(file), std::move(header)};
}

/// The other files of the split that `given` belongs to; all of them, in order.
Result<std::vector<Part>> open_split(const fs::path& path, Part given, const Split& split) {
  const auto name = parse_split_name(path.filename().string());
  const std::string origin = path.string();
  if (!name || name->count != split.count || name->number != split.number + 1)
    return failed(
        fmt::format("{}: the file is part {} of {} of a split model: expected a name that ends in "
                    "\"-{:05}-of-{:05}.gguf\"",
                    origin, split.number + 1, split.count, split.number + 1, split.count));
  std::vector<Part> parts;
  size_t tensors = 0;
  for (int32_t i = 1; i <= name->count; ++i) {
    const fs::path part_path = path.parent_path() / name->name(i);
    if (i == name->number) {
      parts.push_back(std::move(given));  // NOLINT(bugprone-use-after-move): i comes by once
    } else {
      std::error_code error;
      if (!fs::exists(part_path, error))
        return failed(fmt::format("{}: part {} of {} is missing (needed by {})", part_path.string(),
                                  i, name->count, path.filename().string()));
      HADAL_TRY(Part part, open_part(part_path));
      HADAL_TRY(const Split own, split_of(part.header, part_path.string()));
      if (own.count != split.count || own.number != i - 1)
        return failed(fmt::format("{}: expected part {} of {}, found part {} of {}",
                                  part_path.string(), i, split.count, own.number + 1, own.count));
      parts.push_back(std::move(part));
    }
    tensors += parts.back().header.tensors.size();
  }
  if (split.tensors && *split.tensors != static_cast<int64_t>(tensors))
    return failed(
        fmt::format("{}: the {} files hold {} tensors, \"split.tensors.count\" promises {}", origin,
                    split.count, tensors, *split.tensors));
  return parts;
}

GgufTensorFacts facts_of(const Checkpoint& checkpoint) {
  GgufTensorFacts facts;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (tensor.file_name == "output.weight") facts.has_output = true;
    if (tensor.file_name.ends_with(".nextn.eh_proj.weight")) ++facts.mtp_layers;
    if (tensor.file_name == "token_embd.weight") facts.embedding_rows = tensor.shape[0];
  }
  return facts;
}

Status add_tensors(Checkpoint& checkpoint, const std::vector<Part>& parts,
                   std::string_view architecture) {
  for (size_t i = 0; i < parts.size(); ++i)
    for (const GgufTensor& tensor : parts[i].header.tensors)
      HADAL_TRY(CheckpointBuilder::add_tensor(checkpoint,
                                              {.name = official_name(architecture, tensor.name),
                                               .file_name = std::string(tensor.name),
                                               .dtype = tensor.dtype,
                                               .shape = tensor.shape,
                                               .data = tensor.data,
                                               .file = i}));
  return {};
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> open_gguf(const fs::path& path) {
  HADAL_TRY(Part given, open_part(path));
  HADAL_TRY(const Split split, split_of(given.header, path.string()));
  std::vector<Part> parts;
  if (split.count > 1) {
    HADAL_TRY(parts, open_split(path, std::move(given), split));
  } else {
    parts.push_back(std::move(given));
  }

  // The first part holds the metadata of all.
  const GgufFile& first = parts[0].header;
  const std::string origin = parts[0].file.path().string();
  auto checkpoint = CheckpointBuilder::make(CheckpointFormat::kGguf, path);
  CheckpointBuilder::gguf_version(*checkpoint) = static_cast<int32_t>(first.version);
  const GgufValue* name = first.find("general.architecture");
  const std::string architecture(name && name->text() ? *name->text() : "");

  // Mappings keep their place in memory when they move, so the views of the headers stay valid.
  std::vector<MappedFile>& files = CheckpointBuilder::files(*checkpoint);
  for (Part& part : parts) files.push_back(std::move(part.file));
  HADAL_TRY(add_tensors(*checkpoint, parts, architecture));

  const GgufTensorFacts facts = facts_of(*checkpoint);
  HADAL_TRY(CheckpointBuilder::config(*checkpoint), gguf_config(first, facts, origin));
  HADAL_TRY(check_config(checkpoint->config()));
  HADAL_TRY(CheckpointBuilder::tokenizer(*checkpoint), gguf_tokenizer(first, origin));
  const auto tokens = static_cast<int64_t>(checkpoint->tokenizer().tokens.size());
  if (facts.embedding_rows > 0 && tokens > facts.embedding_rows)
    return failed(fmt::format("{}: {} tokens, but token_embd.weight has only {} rows", origin,
                              tokens, facts.embedding_rows));
  for (const auto& [key, value] : first.metadata)
    CheckpointBuilder::metadata(*checkpoint).emplace_back(printable(key), value.printed());
  return checkpoint;
}

}  // namespace hadal
