// ModelSpec: the part of a configuration that all families share, typed and checked before any
// weight is read, and the caches that the family needs.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "checkpoint/config.h"
#include "models/planes.h"
#include "ops/ops.h"
#include "ops/shard.h"

namespace hadal {

/// The part of a model that guesses what follows (docs/drafts.md), if it is loaded.
struct DraftSpec {
  enum class Kind {
    kNone,
    kMtp,     ///< multi-token prediction: a layer that is run again for each token
    kDspark,  ///< DSpark: one pass for a block of tokens, which a cheap chain then settles
  };
  Kind kind = Kind::kNone;
  int64_t hidden = 0;       ///< numbers that the main pass hands over for a row
  int64_t block = 0;        ///< DSpark: tokens that a pass drafts
  int32_t noise_token = 0;  ///< DSpark: what stands for those that are not known yet

  [[nodiscard]] bool is_mtp() const { return kind == Kind::kMtp; }
  [[nodiscard]] bool is_dspark() const { return kind == Kind::kDspark; }
  /// Positions behind the last known token at which the draft writes although none was drafted.
  [[nodiscard]] int64_t reach() const { return is_mtp() ? 1 : block; }
};

struct ModelSpec {
  std::string family;      ///< "llama", "qwen2", …: config.json's model_type
  int64_t vocab_size = 0;  ///< rows of the head
  int64_t hidden_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;
  bool tie_word_embeddings = false;
  Config config;  ///< what was read: config.json, with the family's defaults laid under it
  std::vector<PlaneGroup> groups;
  std::vector<Plane> planes;
  int64_t reuse_unit = 64;  ///< a cached prefix is reused at multiples of it, only
  /// Rows of a prompt that the last layers run up to and including the first whose output is exact
  /// (docs/tail.md);
  /// 0: the model has no tail, all layers run all rows.
  int64_t tail_halo = 0;
  bool tail_exact = true;   ///< false: the user asked for fewer rows than exactness needs
  int64_t extra_width = 0;  ///< numbers a token row that Model::fill_extra fills
  DraftSpec draft;          ///< what is loaded of it
  Shard shard;              ///< the part of the model that is run here
  /// The family's own fields for people and programs: (name as in config.json, value), in reading
  /// order.
  std::vector<std::pair<std::string, std::string>> fields;

  /// The keys of config.json that all families share, checked; begins `fields` with them.
  static Result<ModelSpec> from_config(const Config& config, const Shard& shard = {});
  GroupHandle add_group(PlaneGroup group);
  PlaneHandle add_plane(GroupHandle group, PlaneRole role, int64_t layers, int64_t width,
                        int64_t heads = 1);
  void field(std::string name, std::string value);
  void field(std::string name, int64_t value);
  void field(std::string name, bool value);
  void field(std::string name, const char* value) { field(std::move(name), std::string(value)); }
};

/// What a family's published configuration class takes for a key that config.json leaves out, where
/// that is not what the spec takes anyway. A null in the file stays: it says that there is none.
struct Default {
  std::string_view key, json;
};
Config with_defaults(Config config, std::span<const Default> defaults);

/// A rank's part of what `key` counts, as much as each of the others has; an error that says which
/// numbers of ranks can divide it.
Result<Share> equal_share(const Config& config, std::string_view key, int64_t count,
                          const Shard& shard);

/// "model.layers.7."
inline std::string layer_prefix(int64_t layer) {
  return "model.layers." + std::to_string(layer) + ".";
}

/// A width: a whole number from 1 to 2^20.
Result<int64_t> width_of(const Config& config, std::string_view key,
                         std::optional<int64_t> otherwise = {});

/// Rotary embedding as config.json describes it: rope_theta, rope_scaling, head width.
struct RopeSpec {
  std::string type = "default";  ///< default, linear, llama3, yarn
  double theta = 10000;
  int64_t dims = 0;  ///< dimensions of a head that turn
  bool interleaved = false;
  double factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double beta_fast = 32, beta_slow = 1;              // yarn
  double original_max_position_embeddings = 0;       // llama3, yarn
  bool truncate = true;                              // yarn: low and high are whole numbers
  double amplitude = 1;                              ///< cos and sin are multiplied by it

  /// dims: how many dimensions turn unless the config says otherwise.
  static Result<RopeSpec> from_config(const Config& config, int64_t dims);
  /// inv_freq [dims / 2], computed in double and rounded once.
  [[nodiscard]] std::vector<float> inv_freq() const;
  /// As Ops takes it; the turned dimensions begin at the head's own front.
  [[nodiscard]] Rope op(Tensor inv_freq) const {
    return {.inv_freq = inv_freq,
            .dims = dims,
            .interleaved = interleaved,
            .amplitude = static_cast<float>(amplitude)};
  }
  [[nodiscard]] std::string text() const;
};

}  // namespace hadal
