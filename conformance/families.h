// The families of models that Hadal knows, and the operators that a chip must offer to run one of
// them alone.
//
// What a host lowers (gated_matmul, moe_experts, mla_attention) or does itself (sample) is needed
// by none; lora_add and all_reduce are for adapters and for several devices.
#pragma once

#include "report.h"

namespace hadal::conformance {

struct Family {
  const char* name;
  const char* title;
  std::vector<uint32_t> needs;  ///< hadal_op_id
};
const std::vector<Family>& families();
/// Null: no such family.
const Family* find_family(const std::string& name);

/// {"family", "title", "verdict": "pass", "not offered", "FAILED" or "not tested", "why": […]}.
/// What a chip declines is not offered; it has failed where it broke the contract or computed
/// wrongly, at loads and in queues as well.
Json verdict(const Family& family, const Report& report);
/// Names of the levels that a verdict rests on, as lines.
std::string model_line(const std::string& family);

}  // namespace hadal::conformance
