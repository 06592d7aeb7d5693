// A folder with config.json and *.safetensors as a Checkpoint.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <system_error>

#include "checkpoint/builder.h"
#include "checkpoint/json_scan.h"
#include "checkpoint/names.h"
#include "checkpoint/printable.h"
#include "checkpoint/safetensors.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxTextBytes = int64_t{64} << 20;  // tokenizer.json: 7 to 33 MB
constexpr int64_t kMaxConfigBytes = int64_t{4} << 20;

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

/// The text of a file that may be missing: then "".
Result<std::string> optional_text(const fs::path& path, int64_t limit) {
  if (!is_there(path)) return std::string();
  return read_text_file(path, limit);
}

/// Without an index: model.safetensors, or all files of the folder; of a numbered set none may be
/// missing.
Result<std::vector<std::string>> list_files(const fs::path& folder) {
  if (is_there(folder / "model.safetensors")) return std::vector<std::string>{"model.safetensors"};
  HADAL_TRY(std::vector<std::string> names, files_of(folder));
  std::erase_if(names, [](const std::string& name) { return !name.ends_with(".safetensors"); });
  if (names.empty())
    return failed(
        fmt::format("{}: no *.safetensors in the folder, and no *.gguf", folder.string()));
  for (const std::string& name : names) {
    const auto split = parse_split_name(name);
    for (int32_t i = 1; split && i <= split->count; ++i)
      if (!std::binary_search(names.begin(), names.end(), split->name(i)))
        return failed(
            fmt::format("{}: missing (needed by {})", (folder / split->name(i)).string(), name));
  }
  return names;
}

/// What published_name() goes by: model_type, or the class where that is empty.
Result<std::string> naming_of(const Config& config) {
  HADAL_TRY(const std::string type, config.text("model_type", ""));
  if (!type.empty()) return type;
  HADAL_TRY(const std::vector<std::string> classes, config.texts("architectures"));
  return std::string(!classes.empty() && classes[0].starts_with("DeepseekV4") ? "deepseek_v4" : "");
}

Status add_file(Checkpoint& checkpoint, const fs::path& path, const SafetensorsIndex* index,
                size_t number) {
  if (index && !is_there(path))
    return failed(fmt::format("{}: missing (named by the index)", path.string()));
  HADAL_TRY(MappedFile file, MappedFile::open(path));
  HADAL_TRY(std::vector<SafetensorsEntry> entries, parse_safetensors(file.bytes(), path.string()));
  CheckpointBuilder::files(checkpoint).push_back(std::move(file));
  HADAL_TRY(const std::string type, naming_of(checkpoint.config()));
  for (SafetensorsEntry& entry : entries) {
    if (index) {
      const auto place = index->file_of.find(entry.name);
      if (place == index->file_of.end() || place->second != number)
        return failed(fmt::format(
            "{}: tensor {} is in the file, but the index {}", path.string(), quote(entry.name),
            place == index->file_of.end() ? "does not name it"
                                          : "puts it into " + index->files[place->second]));
    }
    HADAL_TRY(CheckpointBuilder::add_tensor(checkpoint, {.name = published_name(type, entry.name),
                                                         .file_name = std::move(entry.name),
                                                         .dtype = entry.dtype,
                                                         .shape = std::move(entry.shape),
                                                         .data = entry.data,
                                                         .file = number}));
  }
  return {};
}

Status add_files(Checkpoint& checkpoint, const fs::path& folder) {
  const fs::path index_path = folder / "model.safetensors.index.json";
  if (!is_there(index_path)) {
    HADAL_TRY(const std::vector<std::string> names, list_files(folder));
    for (size_t i = 0; i < names.size(); ++i)
      HADAL_TRY(add_file(checkpoint, folder / names[i], nullptr, i));
    return {};
  }
  HADAL_TRY(const std::string text, read_text_file(index_path, kMaxTextBytes));
  HADAL_TRY(const SafetensorsIndex index, parse_safetensors_index(text, index_path.string()));
  for (size_t i = 0; i < index.files.size(); ++i)
    HADAL_TRY(add_file(checkpoint, folder / index.files[i], &index, i));
  HADAL_TRY(const std::string type, naming_of(checkpoint.config()));
  for (const auto& [name, file] : index.file_of)
    if (!checkpoint.find(published_name(type, name)))
      return failed(fmt::format("{}: tensor {} is not in {}, where the index puts it",
                                index_path.string(), quote(name), index.files[file]));
  return {};
}

/// Both tensors hold the same bytes as the same numbers.
bool same_matrix(const TensorInfo& a, const TensorInfo& b) {
  return a.dtype == b.dtype && a.shape == b.shape &&
         std::equal(a.data.begin(), a.data.end(), b.data.begin(), b.data.end());
}

/// tie_word_embeddings as transformers takes it on loading: a head that is stored beside an
/// embedding of other values is a head of its own, and where one of the two is missing it is the
/// other one.
Status settle_tied_head(Checkpoint& checkpoint) {
  Config& config = CheckpointBuilder::config(checkpoint);
  HADAL_TRY(const bool tied, config.boolean("tie_word_embeddings", false));
  if (!tied) return {};
  constexpr std::pair<const char*, const char*> kNames[] = {
      {"model.embed_tokens.weight", "lm_head.weight"}, {"embed.weight", "head.weight"}};
  for (const auto& [embedding, head] : kNames) {
    const TensorInfo* e = checkpoint.find(embedding);
    const TensorInfo* h = checkpoint.find(head);
    if (h && !e) CheckpointBuilder::rename_tensor(checkpoint, head, embedding);
    if (!h || !e || same_matrix(*e, *h)) continue;
    config.set("tie_word_embeddings", "false");
    CheckpointBuilder::notes(checkpoint)
        .push_back(fmt::format("config.json ties the head to the embedding, but {} is another "
                               "matrix than {}: it is used",
                               head, embedding));
  }
  return {};
}

/// chat_template of tokenizer_config.json: a text, or a list of named ones of which "default"
/// counts.
Result<std::string> chat_template_of(const std::string& tokenizer_config,
                                     const std::string& origin) {
  if (tokenizer_config.empty()) return std::string();
  HADAL_TRY(scan_json(tokenizer_config, origin,
                      {.depth = 64, .string_bytes = int64_t{8} << 20, .keys = int64_t{1} << 20}));
  const auto root = nlohmann::json::parse(tokenizer_config, nullptr, false);
  if (root.is_discarded()) return failed(fmt::format("{}: no valid JSON", origin));
  if (!root.is_object()) return failed(fmt::format("{}: expected a JSON object", origin));
  const auto entry = root.find("chat_template");
  if (entry == root.end() || entry->is_null()) return std::string();
  if (entry->is_string()) return entry->get<std::string>();
  if (!entry->is_array())
    return failed(fmt::format("{}: \"chat_template\": expected a string or a list", origin));
  for (const auto& named : *entry) {
    if (!named.is_object()) continue;
    const auto name = named.find("name");
    const auto text = named.find("template");
    if (name != named.end() && *name == "default" && text != named.end() && text->is_string())
      return text->get<std::string>();
  }
  return std::string();
}

Status read_tokenizer(const fs::path& folder, TokenizerData& data) {
  HADAL_TRY(data.tokenizer_json, optional_text(folder / "tokenizer.json", kMaxTextBytes));
  HADAL_TRY(data.tokenizer_config_json,
            optional_text(folder / "tokenizer_config.json", int64_t{16} << 20));
  HADAL_TRY(data.generation_config_json,
            optional_text(folder / "generation_config.json", kMaxConfigBytes));
  HADAL_TRY(data.chat_template, optional_text(folder / "chat_template.jinja", kMaxConfigBytes));
  if (data.chat_template.empty()) {
    const std::string origin = (folder / "tokenizer_config.json").string();
    HADAL_TRY(data.chat_template, chat_template_of(data.tokenizer_config_json, origin));
  }
  if (!data.generation_config_json.empty())
    HADAL_TRY(
        Config::parse(data.generation_config_json, (folder / "generation_config.json").string()));
  return {};
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> open_safetensors(const fs::path& folder) {
  const fs::path config_path = folder / "config.json";
  if (!is_there(config_path))
    return failed(fmt::format(
        "{}: no config.json in the folder: expected a model folder, or one with a .gguf file",
        folder.string()));
  auto checkpoint = CheckpointBuilder::make(CheckpointFormat::kSafetensors, folder);
  HADAL_TRY(const std::string text, read_text_file(config_path, kMaxConfigBytes));
  HADAL_TRY(Config config, Config::parse(text, config_path.string()));
  for (const std::string& key : config.keys())
    CheckpointBuilder::metadata(*checkpoint).emplace_back(printable(key), config.value_text(key));
  HADAL_TRY(normalise_config(config));
  HADAL_TRY(check_config(config));
  CheckpointBuilder::config(*checkpoint) = std::move(config);
  HADAL_TRY(add_files(*checkpoint, folder));
  HADAL_TRY(settle_tied_head(*checkpoint));
  TokenizerData& tokenizer = CheckpointBuilder::tokenizer(*checkpoint);
  HADAL_TRY(read_tokenizer(folder, tokenizer));
  HADAL_TRY(tokenizer.config_eos_token_ids, checkpoint->config().integers("eos_token_id"));
  return checkpoint;
}

}  // namespace hadal
