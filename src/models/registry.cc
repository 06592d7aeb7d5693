// The one list of families. A new family is one line here.
#include <algorithm>
#include <array>

#include "checkpoint/printable.h"
#include "models/deepseek_moe/deepseek_moe.h"
#include "models/deepseek_v3/deepseek_v3.h"
#include "models/deepseek_v32/deepseek_v32.h"
#include "models/deepseek_v4/deepseek_v4.h"
#include "models/deepseek_v41/deepseek_v41.h"
#include "models/dense/dense.h"
#include "models/look_alike.h"
#include "models/model.h"

namespace hadal {
namespace {

struct Family {
  std::string_view model_type;
  std::string_view architecture;  ///< as in config.json's `architectures`: decides where
                                  ///< model_type is empty or not known
  Result<std::unique_ptr<Model>> (*make)(const Config&, const FamilyOptions&);
};

template <typename M>
Result<std::unique_ptr<Model>> make(const Config& config, const FamilyOptions& options) {
  HADAL_TRY(typename M::Spec spec, M::Spec::from_config(config, options));
  return std::unique_ptr<Model>(new M(std::move(spec)));
}

constexpr std::array kFamilies = {
    Family{"llama", "LlamaForCausalLM", make<dense::DenseModel>},
    Family{"qwen2", "Qwen2ForCausalLM", make<dense::DenseModel>},
    Family{"qwen3", "Qwen3ForCausalLM", make<dense::DenseModel>},
    Family{"deepseek", "DeepseekForCausalLM", make<deepseek_moe::DeepSeekMoeModel>},
    Family{"deepseek_v2", "DeepseekV2ForCausalLM", make<deepseek_v3::DeepSeekV3Model>},
    Family{"deepseek_v3", "DeepseekV3ForCausalLM", make<deepseek_v3::DeepSeekV3Model>},
    Family{"deepseek_v32", "DeepseekV32ForCausalLM", make<deepseek_v32::DeepSeekV32Model>},
    Family{"deepseek_v4", "DeepseekV4ForCausalLM", make<deepseek_v4::DeepSeekV4Model>},
    Family{"deepseek_v41", "DeepseekV41ForCausalLM", make<deepseek_v41::DeepSeekV41Model>},
    Family{"deepseek_v41_text", "DeepseekV41ForCausalLM", make<deepseek_v41::DeepSeekV41Model>},
};

}  // namespace

std::vector<std::string> known_families() {
  std::vector<std::string> names;
  names.reserve(std::size(kFamilies));
  for (const Family& f : kFamilies) names.emplace_back(f.model_type);
  return names;
}

Result<std::unique_ptr<Model>> make_model(const Config& config, const FamilyOptions& options) {
  HADAL_TRY(const std::vector<std::string> architectures, config.texts("architectures"));
  HADAL_TRY(const std::string type, config.text("model_type", ""));
  const std::string architecture = architectures.empty() ? "" : architectures[0];
  const auto family_by = [](std::string_view Family::* name, std::string_view value) {
    return std::find_if(kFamilies.begin(), kFamilies.end(),
                        [&](const Family& f) { return f.*name == value; });
  };
  const auto typed = family_by(&Family::model_type, type);
  const auto family =
      typed != kFamilies.end() ? typed : family_by(&Family::architecture, architecture);
  if (family == kFamilies.end()) {
    std::string known;
    for (const Family& f : kFamilies)
      known += (known.empty() ? "" : ", ") + std::string(f.model_type);
    const std::string& name = !type.empty() ? type : architecture;
    if (name.empty()) return failed(config.origin() + ": names no architecture (model_type)");
    return failed(config.origin() + ": architecture " + quote(name) + " is not known; known are " +
                  known);
  }
  Config read = config.watched();
  read.set_text("model_type", family->model_type);
  HADAL_TRY(std::unique_ptr<Model> model, family->make(read, options));
  // A family that does not divide itself would give every rank the whole sums.
  if (model->spec().shard.ranks != options.shard.ranks)
    return failed(config.origin() + ": architecture " + quote(family->model_type) +
                  " cannot be run in parts; run it on one rank");
  if (typed == kFamilies.end() && !type.empty()) HADAL_TRY(refuse_unread(read, type, architecture));
  if (options.draft && model->spec().draft.kind == DraftSpec::Kind::kNone)
    return failed(config.origin() +
                  ": the model has nothing for drafts (multi-token prediction, DSpark) that Hadal "
                  "can run");
  if (options.tail_rows && model->spec().tail_halo == 0) {
    Error error =
        usage_error(config.origin() + ": the model has no tail, and rows of one are given");
    error.setting = Setting::kTailRows;
    return error;
  }
  return model;
}

}  // namespace hadal
