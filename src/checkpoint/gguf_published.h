// What the published DeepSeek models have under keys that a GGUF of another or an older writer may
// lack, and for which no default is right: without expert_group_count the router would choose among
// all experts, without yarn_log_multiplier the softmax would have another scale.
//
// A file's architecture, layers, hidden size and experts tell which model it is. What is taken is
// said in a note; where no model has that shape, or models of one shape differ, the file is refused
// with the key's name. Values: the models' own config.json.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/config.h"
#include "checkpoint/gguf_keys.h"

namespace hadal {

/// Numbers under GGUF's keys; nullopt where the models of this shape differ, or have none.
struct PublishedModel {
  std::string_view architecture, name;
  int64_t layers = 0, hidden = 0, experts = 0;
  std::optional<double> expert_group_count, expert_group_used_count, expert_weights_scale,
      scaling_factor, original_context_length, yarn_log_multiplier;
  std::optional<double> engram_vocab_size, engram_compressed_vocab_size, engram_pad_token_id;
};

class PublishedValues {
 public:
  /// `config` must have num_hidden_layers, hidden_size and n_routed_experts already.
  static Result<PublishedValues> of(const GgufKeys& keys, const Config& config,
                                    std::vector<std::string>& notes);

  /// The published model has a value under `which`.
  [[nodiscard]] bool knows(std::optional<double> PublishedModel::* which) const {
    return model_ && model_->*which;
  }
  /// The value for the missing `key`, said in a note; else the error that names the key.
  Result<double> take(std::string_view key, std::optional<double> PublishedModel::* which);
  /// Notes that `key` is missing and what it is taken as. Only where knows() something.
  void say(std::string_view key, std::string_view value);

 private:
  PublishedValues(const GgufKeys& keys, std::vector<std::string>& notes)
      : keys_(keys), notes_(notes) {}
  const GgufKeys& keys_;
  std::vector<std::string>& notes_;
  const PublishedModel* model_ = nullptr;
  std::string shape_;  ///< "61 layers, hidden size 7168, 256 experts"
};

}  // namespace hadal
