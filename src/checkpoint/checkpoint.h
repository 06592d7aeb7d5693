// Checkpoint: one interface over what holds a model: a GGUF file (split files included) or a folder
// of safetensors.
//
// Owns the mappings. The whole header is validated before anything is returned: every tensor's type
// is known, its size fits its shape, and its bytes lie inside the file. A file that
// contradicts itself is refused with the name of the tensor or key.
// Called by models/ (bind), text/ (tokenizer data) and the programs. Weights and configuration bear
// the official names; what the file called them is kept for messages.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/file.h"
#include "base/result.h"
#include "checkpoint/config.h"

namespace hadal {

/// One stored tensor. `data` points into the mapping and may be unaligned.
struct TensorInfo {
  std::string name;       ///< official name: "model.layers.0.self_attn.q_proj.weight"
  std::string file_name;  ///< its name in the file: "blk.0.attn_q.weight"
  DType dtype = HADAL_F32;
  std::vector<int64_t> shape;  ///< outermost first, [out, in] for a projection
  std::span<const std::byte> data;
  size_t file = 0;  ///< index into Checkpoint::files()

  [[nodiscard]] int64_t elements() const;
  [[nodiscard]] std::string shape_text() const;  ///< "[4096, 1024]"
};

/// What the tokenizer is made of. From a folder: the JSON files' texts. From a GGUF: the
/// tokenizer.ggml.* fields.
struct TokenizerData {
  // folder
  std::string tokenizer_json;         ///< text of tokenizer.json, "" if there is none
  std::string tokenizer_config_json;  ///< text of tokenizer_config.json, "" if there is none
  // GGUF
  std::string gguf_model;  ///< "gpt2" for byte-level BPE, "" for a folder
  std::string gguf_pre;    ///< "llama-bpe", "qwen2", …
  std::vector<std::string> tokens;
  std::vector<int32_t>
      token_types;  ///< 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  std::vector<std::string> merges;  ///< "a b"
  std::optional<int64_t> bos_token_id, eos_token_id, padding_token_id;
  std::vector<int64_t> extra_eos_token_ids;  ///< eot, eom and further ending tokens of a GGUF
  std::optional<bool> add_bos_token, add_eos_token;
  // both
  std::string chat_template;  ///< Jinja text, "" if there is none: recognised, never executed
  std::string generation_config_json;  ///< text of generation_config.json, "" if there is none
  std::vector<int64_t> config_eos_token_ids;  ///< eos_token_id of config.json, one or several

  [[nodiscard]] bool empty() const { return tokenizer_json.empty() && gguf_model.empty(); }
};

struct OpenOptions {
  /// Of a GGUF whose tokenizer.ggml.pre is missing or wrong: the pre-tokenizer's name. "": what the
  /// file says.
  std::string pre_tokenizer;
};

enum class CheckpointFormat { kGguf, kSafetensors };

class Checkpoint {
 public:
  /// Opens a .gguf file (the first of a split names the others; any part may be given), a folder
  /// with config.json and *.safetensors (with or without an index), a path to
  /// model.safetensors(.index.json) in such a folder, or a folder without *.safetensors that holds
  /// one GGUF model. Errors: kNotFound; kMemory; kFailed with what is wrong and where (byte offset
  /// or key).
  static Result<std::unique_ptr<Checkpoint>> open(const std::filesystem::path& path,
                                                  const OpenOptions& options = {});
  /// A whole GGUF model that was mapped or lent already (base/file.h); the file's path is its name
  /// in messages. Errors: as open(); a part of a split, whose other files cannot be found.
  static Result<std::unique_ptr<Checkpoint>> open(MappedFile file, const OpenOptions& options = {});

  [[nodiscard]] CheckpointFormat format() const { return format_; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// e.g. "GGUF v3, 2 files" or "safetensors, 4 files"
  [[nodiscard]] std::string description() const;
  [[nodiscard]] const Config& config() const { return config_; }
  [[nodiscard]] const std::vector<TensorInfo>& tensors() const { return tensors_; }
  [[nodiscard]] const TensorInfo* find(std::string_view official_name) const;
  [[nodiscard]] const TokenizerData& tokenizer() const { return tokenizer_; }
  [[nodiscard]] std::span<const MappedFile> files() const { return files_; }
  /// Sentences for people: what the file leaves out and what is taken instead, what of it is
  /// ignored.
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }
  /// GGUF metadata, or the top level of config.json, as (key, printable value) in file order, for
  /// `inspect`.
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& metadata() const {
    return metadata_;
  }

 private:
  friend struct CheckpointBuilder;  // gguf.cc, safetensors.cc fill it; nobody sees a half-built one
  Checkpoint() = default;
  CheckpointFormat format_ = CheckpointFormat::kGguf;
  std::filesystem::path path_;
  int32_t gguf_version_ = 0;
  Config config_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t, std::less<>> by_name_;
  TokenizerData tokenizer_;
  std::vector<MappedFile> files_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  std::vector<std::string> notes_;
};

}  // namespace hadal
