// ModelSpec: what every family tells about itself, typed and validated, before a byte of weights is
// touched.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "checkpoint/config.h"
#include "models/planes.h"

namespace hadal {

struct ModelSpec {
  std::string family;      ///< "llama", "qwen2", …: config.json's model_type
  int64_t vocab_size = 0;  ///< rows of the head
  int64_t hidden_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t max_position_embeddings = 0;
  std::vector<PlaneGroup> groups;
  std::vector<Plane> planes;
  int64_t reuse_unit = 64;  ///< a cached prefix is reused at multiples of it, only
  /// The family's own fields for people and programs: (name as in config.json, value), in reading
  /// order.
  std::vector<std::pair<std::string, std::string>> fields;
};

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
  [[nodiscard]] std::string text() const;
};

}  // namespace hadal
