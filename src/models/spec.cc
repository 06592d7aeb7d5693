#include "models/spec.h"

#include <algorithm>

#include "checkpoint/printable.h"

namespace hadal {
namespace {

// Far above every published model: a larger number comes from a damaged file.
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxContext = int64_t{1} << 24;

}  // namespace

Config with_defaults(Config config, std::span<const Default> defaults) {
  if (config.says_all()) return config;
  for (const Default& d : defaults)
    if (!config.contains(d.key)) config.set(d.key, d.json);
  return config;
}

Result<ModelSpec> ModelSpec::from_config(const Config& config, const Shard& shard) {
  HADAL_CHECK(shard.rank >= 0 && shard.rank < shard.ranks);
  ModelSpec s;
  s.config = config;
  s.shard = shard;
  HADAL_TRY(s.family, config.text("model_type"));
  HADAL_TRY(s.vocab_size, config.integer("vocab_size", 1, kMaxWidth * 16));
  HADAL_TRY(s.hidden_size, config.integer("hidden_size", 1, kMaxWidth));
  HADAL_TRY(s.num_hidden_layers, config.integer("num_hidden_layers", 1, kMaxLayers));
  HADAL_TRY(s.max_position_embeddings, config.integer("max_position_embeddings", 1, kMaxContext));
  HADAL_TRY(s.rms_norm_eps, config.real("rms_norm_eps", 1e-6));
  if (!(s.rms_norm_eps >= 0) || s.rms_norm_eps > 1)
    return failed(config.origin() + ": rms_norm_eps is " + std::to_string(s.rms_norm_eps) +
                  ", expected a number in [0, 1]");
  HADAL_TRY(s.tie_word_embeddings, config.boolean("tie_word_embeddings", false));
  // What the published models do not use is refused rather than ignored.
  HADAL_TRY(const std::string act, config.text("hidden_act", "silu"));
  if (act != "silu" && act != "swish")
    return failed(config.origin() + ": hidden_act " + quote(act) +
                  " is not known; known are silu and swish, its other name");
  s.field("hidden_size", s.hidden_size);
  s.field("num_hidden_layers", s.num_hidden_layers);
  s.field("vocab_size", s.vocab_size);
  s.field("max_position_embeddings", s.max_position_embeddings);
  s.field("tie_word_embeddings", s.tie_word_embeddings);
  return s;
}

GroupHandle ModelSpec::add_group(PlaneGroup group) {
  groups.push_back(std::move(group));
  return {groups.size() - 1};
}

PlaneHandle ModelSpec::add_plane(GroupHandle group, PlaneRole role, int64_t layers, int64_t width,
                                 int64_t heads) {
  HADAL_CHECK(group.index < groups.size());
  planes.push_back(
      {.role = role, .group = group.index, .layers = layers, .width = width, .heads = heads});
  return {planes.size() - 1, group};
}

void ModelSpec::field(std::string name, std::string value) {
  fields.emplace_back(std::move(name), std::move(value));
}
void ModelSpec::field(std::string name, int64_t value) {
  field(std::move(name), std::to_string(value));
}
void ModelSpec::field(std::string name, bool value) {
  field(std::move(name), std::string(value ? "true" : "false"));
}

Result<Share> equal_share(const Config& config, std::string_view key, int64_t count,
                          const Shard& shard) {
  if (count % shard.ranks == 0) return Share::of_rank(count, shard);
  std::string divisors;
  for (int64_t n = 1; n <= std::min<int64_t>(count, 64); ++n)
    if (count % n == 0) divisors += (divisors.empty() ? "" : ", ") + std::to_string(n);
  return failed(config.origin() + ": " + std::string(key) + " " + std::to_string(count) +
                " cannot be divided over " + std::to_string(shard.ranks) + " ranks; it can over " +
                divisors);
}

Result<int64_t> width_of(const Config& config, std::string_view key,
                         std::optional<int64_t> otherwise) {
  return config.integer(key, 1, kMaxWidth, otherwise);
}

}  // namespace hadal
