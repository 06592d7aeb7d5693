// Inside of the checkpoint folder: how its readers fill a Checkpoint, and the names of split files.
//
// Nobody outside sees a Checkpoint before its last check has passed; a failure on the way drops all
// of it.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "checkpoint/checkpoint.h"

namespace hadal {

/// Access to the private parts of a Checkpoint under construction.
struct CheckpointBuilder {
  static std::unique_ptr<Checkpoint> make(CheckpointFormat format,
                                          const std::filesystem::path& path);
  /// Refuses a second tensor of the same official name.
  static Status add_tensor(Checkpoint& checkpoint, TensorInfo tensor);
  /// Gives the tensor `from` the official name `to`, which no tensor has.
  static void rename_tensor(Checkpoint& checkpoint, const std::string& from, const std::string& to);

  static std::vector<MappedFile>& files(Checkpoint& c) { return c.files_; }
  static Config& config(Checkpoint& c) { return c.config_; }
  static TokenizerData& tokenizer(Checkpoint& c) { return c.tokenizer_; }
  static int32_t& gguf_version(Checkpoint& c) { return c.gguf_version_; }
  static std::vector<std::pair<std::string, std::string>>& metadata(Checkpoint& c) {
    return c.metadata_;
  }
  static std::vector<TensorInfo>& tensors(Checkpoint& c) { return c.tensors_; }
  static std::vector<std::string>& notes(Checkpoint& c) { return c.notes_; }
};

/// The names in a folder that do not begin with a dot, sorted.
Result<std::vector<std::string>> files_of(const std::filesystem::path& folder);

/// gguf_open.cc: a file, and the other files of its split.
Result<std::unique_ptr<Checkpoint>> open_gguf(const std::filesystem::path& path,
                                              const OpenOptions& options);
/// The same of one file that has no folder around it: a part of a split is refused.
Result<std::unique_ptr<Checkpoint>> open_gguf(MappedFile file, const OpenOptions& options);
/// safetensors_open.cc: a folder.
Result<std::unique_ptr<Checkpoint>> open_safetensors(const std::filesystem::path& folder);

/// "model-00002-of-00005.gguf": part 2 of 5.
struct SplitName {
  std::string prefix;  ///< "model"
  int32_t number = 0;  ///< from 1
  int32_t count = 0;
  std::string extension;  ///< ".gguf"

  [[nodiscard]] std::string name(int32_t part) const;
};

/// The parts of a plain file name of that pattern; nullopt for other names.
std::optional<SplitName> parse_split_name(std::string_view file_name);

}  // namespace hadal
