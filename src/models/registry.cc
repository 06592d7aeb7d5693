// The one list of families. A new family is one line here.
#include <array>

#include "models/deepseek_moe/deepseek_moe.h"
#include "models/deepseek_v3/deepseek_v3.h"
#include "models/deepseek_v32/deepseek_v32.h"
#include "models/deepseek_v4/deepseek_v4.h"
#include "models/deepseek_v41/deepseek_v41.h"
#include "models/dense/dense.h"
#include "models/model.h"

namespace hadal {
namespace {

struct Family {
  std::string_view model_type;
  std::string_view
      architecture;  ///< as in config.json's `architectures`, for configs without model_type
  Result<std::unique_ptr<Model>> (*make)(const Config&, const FamilyOptions&);
};

template <typename M>
Result<std::unique_ptr<Model>> make(const Config& config, const FamilyOptions& options) {
  const auto read = [&] {
    if constexpr (requires { M::Spec::from_config(config, options); })
      return M::Spec::from_config(config, options);
    else
      return M::Spec::from_config(config);
  };
  HADAL_TRY(typename M::Spec spec, read());
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
  for (const Family& f : kFamilies) {
    const bool named = type.empty() ? !architectures.empty() && architectures[0] == f.architecture
                                    : type == f.model_type;
    if (!named) continue;
    HADAL_TRY(std::unique_ptr<Model> model, f.make(config, options));
    if (options.draft && !model->spec().drafts)
      return failed(config.origin() + ": no layer of multi-token prediction that Hadal can run");
    if (options.tail_rows && model->spec().tail_halo == 0) {
      Error error =
          usage_error(config.origin() + ": rows are given for the model's tail, and it has none");
      error.setting = Setting::kTailRows;
      return error;
    }
    return model;
  }
  std::string known;
  for (const Family& f : kFamilies)
    known += (known.empty() ? "" : ", ") + std::string(f.model_type);
  const std::string name = !type.empty() ? type : !architectures.empty() ? architectures[0] : "";
  if (name.empty()) return failed(config.origin() + ": names no architecture (model_type)");
  return failed(config.origin() + ": architecture '" + name + "' is not known; known are " + known);
}

}  // namespace hadal
