// A config.json whose model_type is not known, but whose class is: Kimi-K2 says kimi_k2 and
// DeepseekV3ForCausalLM.
//
// Such a model runs as the class does if its configuration holds nothing else. Whatever no spec
// reads and is not known to be harmless may change the mathematics, and is refused by name.
#pragma once

#include "base/result.h"
#include "checkpoint/config.h"

namespace hadal {

/// `config`: watched, after the family has read it. `type`: the model_type of the file.
Status refuse_unread(const Config& config, std::string_view type, std::string_view architecture);

}  // namespace hadal
