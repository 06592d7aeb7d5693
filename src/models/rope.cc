// RoPE frequencies. Computed with fp32 rounding at each step, as transformers and DeepSeek's own
// code do: at large positions an ulp of a frequency turns a pair by a visible angle, and "the same
// mathematics" means the same rounded frequencies. Sources: YaRN (arXiv 2309.00071) as in
// DeepSeek-V3 inference/model.py; llama3 scaling as in Llama-3.1's reference.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "checkpoint/printable.h"
#include "models/spec.h"

namespace hadal {
namespace {

constexpr double kPi = std::numbers::pi;

/// theta^(2i / dims), rounded to fp32.
std::vector<float> wave_lengths(double theta, int64_t dims) {
  std::vector<float> waves;
  for (int64_t i = 0; i < dims; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(dims);
    waves.push_back(static_cast<float>(std::pow(theta, static_cast<double>(exponent))));
  }
  return waves;
}

/// The dimension whose pair turns `rotations` times within the original context.
double correction_dim(double rotations, const RopeSpec& s) {
  return static_cast<double>(s.dims) *
         std::log(s.original_max_position_embeddings / (rotations * 2 * kPi)) /
         (2 * std::log(s.theta));
}

std::vector<float> yarn(const RopeSpec& s) {
  double low = correction_dim(s.beta_fast, s), high = correction_dim(s.beta_slow, s);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(s.dims - 1));
  if (low == high) high += 0.001;
  const auto factor = static_cast<float>(s.factor);
  std::vector<float> inv = wave_lengths(s.theta, s.dims);
  for (size_t i = 0; i < inv.size(); ++i) {
    const float ramp = std::clamp(
        (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f,
        1.0f);
    const float keep = 1.0f - ramp;
    const float interpolated = 1.0f / (factor * inv[i]), original = 1.0f / inv[i];
    inv[i] = interpolated * (1.0f - keep) + original * keep;
  }
  return inv;
}

void llama3(const RopeSpec& s, std::vector<float>& inv) {
  const auto factor = static_cast<float>(s.factor), low = static_cast<float>(s.low_freq_factor),
             high = static_cast<float>(s.high_freq_factor);
  const auto context = static_cast<float>(s.original_max_position_embeddings);
  for (float& f : inv) {
    const float wave = static_cast<float>(2 * kPi) / f;
    if (wave > context / low) {
      f = f / factor;
    } else if (!(wave < context / high)) {
      const float smooth = (context / wave - low) / (high - low);
      f = (1 - smooth) * f / factor + smooth * f;
    }
  }
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

/// The amplitude of cos and sin that a YaRN section asks for.
Result<double> yarn_amplitude(const Config& scaling, double factor) {
  if (scaling.has("attention_factor")) return scaling.real("attention_factor");
  // R1-0528-Qwen3-8B and GGUF: a multiplier of the usual amplitude.
  HADAL_TRY(const double multiplier, scaling.real("attn_factor", 1.0));
  HADAL_TRY(const double mscale, scaling.real("mscale", 0.0));
  HADAL_TRY(const double mscale_all_dim, scaling.real("mscale_all_dim", 0.0));
  if (mscale != 0 && mscale_all_dim != 0)
    return multiplier * yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim);
  return multiplier * yarn_mscale(factor, 1.0);
}

Error bad_value(const Config& config, const std::string& what) {
  return failed(config.origin() + ": rope_scaling: " + what);
}

}  // namespace

Result<RopeSpec> RopeSpec::from_config(const Config& config, int64_t dims) {
  RopeSpec s;
  HADAL_TRY(s.theta, config.real("rope_theta", 10000.0));
  if (!(s.theta > 1))
    return failed(config.origin() + ": rope_theta is " + std::to_string(s.theta) +
                  ", expected more than 1");
  HADAL_TRY(s.dims, config.integer("rope_dim", 2, dims, dims));
  if (s.dims % 2 != 0)
    return failed(config.origin() + ": the rotary width is " + std::to_string(s.dims) +
                  ", expected an even number");
  HADAL_TRY(s.interleaved, config.boolean("rope_interleave", false));
  HADAL_TRY(const Config scaling, config.object("rope_scaling"));
  HADAL_TRY(const std::string old_type, scaling.text("type", "default"));
  HADAL_TRY(s.type, scaling.text("rope_type", old_type));
  if (s.type == "none") s.type = "default";
  // partial_rotary_factor: the classes of these families turn whole heads without scaling, whatever
  // it says, and cannot run with both.
  if (s.type == "default") return s;
  if (s.type != "linear" && s.type != "llama3" && s.type != "yarn")
    return bad_value(
        config, "type " + quote(s.type) + " is not known; known are default, linear, llama3, yarn");
  HADAL_TRY(const double part, config.real("partial_rotary_factor", 1.0));
  if (part != 1)
    return failed(config.origin() + ": partial_rotary_factor is " + std::to_string(part) +
                  " beside a rope_scaling; known is 1");

  // For what the scaling leaves out.
  std::optional<double> context, ratio;
  if (config.has("max_position_embeddings")) {
    HADAL_TRY(context, config.real("max_position_embeddings"));
  }
  if (s.type != "linear") {
    HADAL_TRY(s.original_max_position_embeddings,
              scaling.real("original_max_position_embeddings", context));
    if (!(s.original_max_position_embeddings >= 1))
      return bad_value(config, "original_max_position_embeddings is " +
                                   std::to_string(s.original_max_position_embeddings) +
                                   ", expected 1 or more");
  }
  if (s.type == "yarn" && context) ratio = *context / s.original_max_position_embeddings;
  HADAL_TRY(s.factor, scaling.real("factor", ratio));
  if (!(s.factor >= 1))
    return bad_value(config, "factor is " + std::to_string(s.factor) + ", expected 1 or more");
  if (s.type == "linear") return s;
  if (s.type == "llama3") {
    HADAL_TRY(s.low_freq_factor, scaling.real("low_freq_factor"));
    HADAL_TRY(s.high_freq_factor, scaling.real("high_freq_factor"));
    if (!(s.low_freq_factor > 0) || !(s.high_freq_factor > s.low_freq_factor))
      return bad_value(config, "low_freq_factor must be above 0 and below high_freq_factor");
    return s;
  }
  HADAL_TRY(s.beta_fast, scaling.real("beta_fast", 32.0));
  HADAL_TRY(s.beta_slow, scaling.real("beta_slow", 1.0));
  if (!(s.beta_fast > 0) || !(s.beta_slow > 0))
    return bad_value(config, "beta_fast and beta_slow must be above 0");
  HADAL_TRY(s.truncate, scaling.boolean("truncate", true));
  HADAL_TRY(s.amplitude, yarn_amplitude(scaling, s.factor));
  if (!(s.amplitude > 0))
    return bad_value(config, "the attention factor is " + std::to_string(s.amplitude) +
                                 ", expected more than 0");
  return s;
}

std::vector<float> RopeSpec::inv_freq() const {
  if (type == "yarn") return yarn(*this);
  std::vector<float> inv = wave_lengths(theta, dims);
  for (float& f : inv) f = 1.0f / f;
  if (type == "linear")
    for (float& f : inv) f /= static_cast<float>(factor);
  if (type == "llama3") llama3(*this, inv);
  return inv;
}

std::string RopeSpec::text() const {
  std::string out = type + ", theta " + std::to_string(static_cast<int64_t>(theta)) + ", " +
                    std::to_string(dims) + " dimensions, " +
                    (interleaved ? "interleaved" : "half-split");
  if (type != "default") out += ", factor " + std::to_string(factor);
  if (original_max_position_embeddings > 0)
    out += ", original context " +
           std::to_string(static_cast<int64_t>(original_max_position_embeddings));
  if (amplitude != 1) out += ", amplitude " + std::to_string(amplitude);
  return out;
}

}  // namespace hadal
