// The GGUF architectures that are known, and a reader of their
// metadata keys that turns values into JSON for a Config.
//
// Called by names.cc (which names an architecture's tensors have) and by what makes a config.json
// of metadata: gguf_config.cc, gguf_published.cc, gguf_v41.cc.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/config.h"
#include "checkpoint/gguf.h"

namespace hadal {

struct Architecture {
  std::string_view gguf;
  std::string_view model_type;
  bool interleaved;  ///< pairs (0,1), (2,3), … are rotated: llama's files have the rows of q and k
                     ///< permuted for it
  bool experts;
  bool latent;
  bool v4 = false;   ///< names and keys of DeepSeek-V4
  bool v41 = false;  ///< and those that V4.1 adds to them
};

/// nullptr for an architecture that is not known.
const Architecture* find_architecture(std::string_view gguf);
/// The architecture that a folder of this model_type becomes as a GGUF; nullptr if there is none.
const Architecture* gguf_architecture(std::string_view model_type);

enum class GgufKind { kInteger, kIntegerOrList, kIntegers, kReal, kRealOrList, kBool };

/// A metadata key and the key of config.json that it becomes.
struct GgufKeyRow {
  std::string_view gguf;  ///< after "{architecture}."
  std::string_view official;
  GgufKind kind;
};

/// The keys of `{architecture}.*` that have an official name, and those of rope_scaling
/// (gguf_config.cc).
std::vector<GgufKeyRow> gguf_keys(const Architecture& architecture);
std::span<const GgufKeyRow> gguf_scaling_keys();

/// Reads `{architecture}.*` keys.
class GgufKeys {
 public:
  GgufKeys(const GgufFile& file, std::string architecture, const std::string& origin)
      : file_(file), architecture_(std::move(architecture)), origin_(origin) {}

  [[nodiscard]] std::string full(std::string_view key) const;
  [[nodiscard]] const GgufValue* find(std::string_view key) const { return file_.find(full(key)); }
  [[nodiscard]] bool has(std::string_view key) const { return find(key) != nullptr; }
  [[nodiscard]] const GgufFile& file() const { return file_; }
  [[nodiscard]] const std::string& architecture() const { return architecture_; }
  [[nodiscard]] const std::string& origin() const { return origin_; }

  /// "{origin}: key "{architecture}.{key}": {text}"
  [[nodiscard]] Error error(std::string_view key, std::string_view text) const;
  /// The JSON text of a key that is there.
  [[nodiscard]] Result<std::string> json(std::string_view key, GgufKind kind) const;
  /// A whole number in [low, high]; nullopt without the key.
  [[nodiscard]] Result<std::optional<int64_t>> integer(std::string_view key, int64_t low,
                                                       int64_t high) const;
  /// A list of whole numbers; empty without the key.
  [[nodiscard]] Result<std::vector<int64_t>> integers(std::string_view key) const;
  /// Sets in `config` what the file has of `rows`; of two rows for one official key the later wins.
  Status copy(std::span<const GgufKeyRow> rows, Config& config) const;

 private:
  const GgufFile& file_;
  std::string architecture_;
  const std::string& origin_;
};

}  // namespace hadal
