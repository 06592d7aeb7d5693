// A GGUF file, with the other files of its split, as a Checkpoint.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
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

/// Change the mathematics and are read by no family, but for the value that stands beside them. An
/// architecture is often that of a look-alike: Mistral's and Zhipu's models are in files that say
/// deepseek2.
struct ForeignKey {
  std::string_view key;  ///< after "{architecture}."
  double neutral;        ///< false is 0, true is 1
};
constexpr auto kForeignKeys = std::to_array<ForeignKey>({
    {"activation_sparsity_scale", 0},
    {"attention.causal", 1},
    {"attention.clamp_kqv", 0},
    {"attention.max_alibi_bias", 0},
    {"attention.output_scale", 1},
    {"attention.scale", 0},
    {"attention.shared_kv_layers", 0},
    {"attention.temperature_scale", 0},
    {"attn_logit_softcapping", 0},
    {"embedding_scale", 1},
    {"expert_group_scale", 1},
    {"final_logit_softcapping", 0},
    {"full_attention_interval", 1},
    {"interleave_moe_layer_step", 1},
    {"logit_scale", 1},
    {"moe_every_n_layers", 1},
    {"moe_latent_size", 0},
    {"n_deepstack_layers", 0},
    {"residual_scale", 1},
    {"rope.scaling.alpha", 0},
    {"router_logit_softcapping", 0},
    {"use_parallel_residual", 0},
});

Status refuse_foreign_keys(const GgufFile& file, const std::string& architecture,
                           const std::string& origin) {
  for (const ForeignKey& row : kForeignKeys) {
    const std::string key = fmt::format("{}.{}", architecture, row.key);
    const GgufValue* value = file.find(key);
    if (!value) continue;
    const auto truth = value->boolean();
    const auto number = truth ? std::optional<double>(*truth ? 1 : 0) : value->real();
    if (number != row.neutral)
      return failed(
          fmt::format("{}: key {} is {}: no {} model that Hadal knows has it (expected {})", origin,
                      quote(key), value->printed(60), quote(architecture), row.neutral));
  }
  return {};
}

/// One mapped and parsed file. The views in `header` point into `file`'s mapping, which moves with
/// it and stays in place.
struct Part {
  MappedFile file;
  GgufFile header;
};

Result<Part> parse_part(MappedFile file) {
  HADAL_TRY(GgufFile header, parse_gguf(file.bytes(), file.path().string()));
  return Part{std::move(file), std::move(header)};
}

Result<Part> open_part(const fs::path& path) {
  HADAL_TRY(MappedFile file, MappedFile::open(path));
  return parse_part(std::move(file));
}

/// Refuses a file whose keys, as far as the first file has them too, say something else: it is a
/// part of another model. split.no alone differs from part to part.
Status check_same_model(const Part& first, const Part& part) {
  for (const auto& [key, value] : part.header.metadata) {
    const GgufValue* other = key == "split.no" ? nullptr : first.header.find(key);
    if (other && (other->type != value.type || other->payload != value.payload))
      return failed(fmt::format("{}: a part of another model than {}: key {} is {} here, {} there",
                                part.file.path().string(), first.file.path().filename().string(),
                                quote(key), value.printed(60), other->printed(60)));
  }
  return {};
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
    HADAL_TRY(check_same_model(parts.front(), parts.back()));
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
    const std::string_view name = tensor.file_name;
    if (name == "output.weight") facts.has_output = true;
    if (name == "fc.weight") facts.has_dspark = true;
    if (name.ends_with(".nextn.eh_proj.weight")) ++facts.mtp_layers;
    if (name == "token_embd.weight") facts.embedding_rows = tensor.shape[0];
    int64_t layer = -1;
    if (!name.starts_with("blk.") ||
        std::from_chars(name.data() + 4, name.data() + name.size(), layer).ec != std::errc{})
      continue;
    if (name.ends_with(".attn_compressor_kv.weight")) facts.compressor_layers.push_back(layer);
    if (name.ends_with(".indexer.attn_q_b.weight")) facts.indexer_layers.push_back(layer);
    if (name.ends_with(".engram_embd.weight")) facts.engram_rows[layer] = tensor.shape[0];
    if (tensor.name.ends_with(".engram.wkv.weight")) facts.engram_columns = tensor.shape.back();
  }
  std::sort(facts.compressor_layers.begin(), facts.compressor_layers.end());
  std::sort(facts.indexer_layers.begin(), facts.indexer_layers.end());
  return facts;
}

/// Some writers fold the outermost dimension of a tensor into the next, others keep the two apart;
/// the bytes are the same. Gives each tensor the shape that models expect.
Status unify_shapes(Checkpoint& checkpoint) {
  HADAL_TRY(const std::vector<int64_t> heads, checkpoint.config().integers("num_attention_heads"));
  for (TensorInfo& tensor : CheckpointBuilder::tensors(checkpoint)) {
    std::vector<int64_t>& shape = tensor.shape;
    const std::string_view name = tensor.name;
    const bool halves = name.ends_with(".k_b_proj.weight") || name.ends_with(".v_b_proj.weight");
    if (halves && shape.size() == 2 && heads.size() == 1 && shape[0] % heads[0] == 0)
      shape = {heads[0], shape[0] / heads[0], shape[1]};
    if (name.ends_with(".attn.wo_a.weight") && shape.size() == 3)
      shape = {shape[0] * shape[1], shape[2]};
  }
  return {};
}

/// Older files keep kv_b whole, some of another writer beside its halves.
void note_unused_kv_b(Checkpoint& checkpoint) {
  int64_t both = 0;
  constexpr std::string_view kWhole = ".kv_b_proj.weight";
  for (const TensorInfo& tensor : checkpoint.tensors())
    if (tensor.name.ends_with(kWhole) &&
        checkpoint.find(tensor.name.substr(0, tensor.name.size() - kWhole.size()) +
                        ".k_b_proj.weight"))
      ++both;
  if (both > 0)
    CheckpointBuilder::notes(checkpoint)
        .push_back(
            fmt::format("attn_kv_b of {} layer{} is ignored: attn_k_b and attn_v_b, which are "
                        "its halves, are there too",
                        both, both == 1 ? "" : "s"));
}

/// The tokenizer's data, its pre-tokenizer as `options` name it.
Status read_tokenizer(Checkpoint& checkpoint, const GgufFile& file, const OpenOptions& options,
                      const std::string& origin) {
  std::vector<std::string>& notes = CheckpointBuilder::notes(checkpoint);
  TokenizerData& data = CheckpointBuilder::tokenizer(checkpoint);
  HADAL_TRY(data, gguf_tokenizer(file, origin, notes));
  if (options.pre_tokenizer.empty() || data.empty()) return {};
  if (!data.gguf_pre.empty() && data.gguf_pre != options.pre_tokenizer)
    notes.push_back(fmt::format("key \"tokenizer.ggml.pre\" is {}: taken as {}, as asked for",
                                quote(data.gguf_pre, 40), quote(options.pre_tokenizer, 40)));
  data.gguf_pre = options.pre_tokenizer;
  return {};
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

/// All parts of one model, in order, as a checkpoint.
Result<std::unique_ptr<Checkpoint>> checkpoint_of(std::vector<Part> parts, const fs::path& path,
                                                  const OpenOptions& options) {
  // The first part holds the metadata of all.
  const GgufFile& first = parts[0].header;
  const std::string origin = parts[0].file.path().string();
  auto checkpoint = CheckpointBuilder::make(CheckpointFormat::kGguf, path);
  CheckpointBuilder::gguf_version(*checkpoint) = static_cast<int32_t>(first.version);
  const GgufValue* name = first.find("general.architecture");
  const std::string architecture(name && name->text() ? *name->text() : "");
  HADAL_TRY(refuse_foreign_keys(first, architecture, origin));

  // Mappings keep their place in memory when they move, so the views of the headers stay valid.
  std::vector<MappedFile>& files = CheckpointBuilder::files(*checkpoint);
  for (Part& part : parts) files.push_back(std::move(part.file));
  HADAL_TRY(add_tensors(*checkpoint, parts, architecture));

  const GgufTensorFacts facts = facts_of(*checkpoint);
  HADAL_TRY(CheckpointBuilder::config(*checkpoint),
            gguf_config(first, facts, origin, CheckpointBuilder::notes(*checkpoint)));
  CheckpointBuilder::config(*checkpoint).set_says_all();
  HADAL_TRY(extend_context(CheckpointBuilder::config(*checkpoint)));
  HADAL_TRY(check_config(checkpoint->config()));
  HADAL_TRY(unify_shapes(*checkpoint));
  note_unused_kv_b(*checkpoint);
  HADAL_TRY(read_tokenizer(*checkpoint, first, options, origin));
  const auto tokens = static_cast<int64_t>(checkpoint->tokenizer().tokens.size());
  if (facts.embedding_rows > 0 && tokens > facts.embedding_rows)
    return failed(fmt::format("{}: {} tokens, but token_embd.weight has only {} rows", origin,
                              tokens, facts.embedding_rows));
  for (const auto& [key, value] : first.metadata)
    CheckpointBuilder::metadata(*checkpoint).emplace_back(printable(key), value.printed());
  return checkpoint;
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> open_gguf(const fs::path& path, const OpenOptions& options) {
  HADAL_TRY(Part given, open_part(path));
  HADAL_TRY(const Split split, split_of(given.header, path.string()));
  std::vector<Part> parts;
  if (split.count > 1) {
    HADAL_TRY(parts, open_split(path, std::move(given), split));
  } else {
    parts.push_back(std::move(given));
  }
  return checkpoint_of(std::move(parts), path, options);
}

Result<std::unique_ptr<Checkpoint>> open_gguf(MappedFile file, const OpenOptions& options) {
  const fs::path name = file.path();
  HADAL_TRY(Part part, parse_part(std::move(file)));
  HADAL_TRY(const Split split, split_of(part.header, name.string()));
  if (split.count > 1)
    return failed(
        fmt::format("{}: the file is part {} of {} of a split model: only by its path can the "
                    "others be found",
                    name.string(), split.number + 1, split.count));
  std::vector<Part> parts;
  parts.push_back(std::move(part));
  return checkpoint_of(std::move(parts), name, options);
}

}  // namespace hadal
