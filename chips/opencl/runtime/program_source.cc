// The text of a program of OpenCL C: numbers that kernels name, what all of them share, and a file.
#include <algorithm>
#include <cctype>

#include "base/dtype.h"
#include "contract/operators.h"
#include "runtime/plan_layout.h"
#include "runtime/sources.h"
#include "runtime/weights.h"

namespace hadal::opencl {
namespace {

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

/// Numbers that kernels name: operators and operands (which tell their operator as well), the
/// layout of plans, sampling parameters, the size of a work-group.
std::string definitions() {
  std::string text;
  const auto define = [&](const std::string& name, int64_t value) {
    text += "#define " + name + " " + std::to_string(value) + "\n";
  };
  define("GROUP", kGroup);
  for (uint32_t id = 1; id < 64; ++id) {
    if (contract::operand_count(id) > 0) define("OP_" + upper(contract::op_name(id)), id);
    for (uint32_t i = 0; i < contract::operand_count(id); ++i)
      define(upper(contract::op_name(id)) + "_" + upper(contract::operand_name(id, i)),
             id << 8 | i);
  }
  for (const auto& [name, value] : kPlanLayout) define(name, value);
  for (const uint32_t dtype : kBlockTypes)
    text += "#define TYPE_" + std::string(dtype_name(static_cast<DType>(dtype))) + " " +
            std::to_string(dtype) + "\n";
  for (const OwnBlock& block : kOwnBlocks) define("TYPE_" + std::string(block.name), block.type);
  constexpr std::pair<const char*, int> kParameters[] = {{"TEMPERATURE", HADAL_PARAM_TEMPERATURE},
                                                         {"TOP_K", HADAL_PARAM_TOP_K},
                                                         {"TOP_P", HADAL_PARAM_TOP_P},
                                                         {"MIN_P", HADAL_PARAM_MIN_P},
                                                         {"REPETITION", HADAL_PARAM_REPETITION},
                                                         {"PRESENCE", HADAL_PARAM_PRESENCE},
                                                         {"FREQUENCY", HADAL_PARAM_FREQUENCY}};
  for (const auto& [name, number] : kParameters)
    text += std::string("#define PARAM_") + name + " " + std::to_string(number) + "\n";
  return text;
}

const char* source_of(std::string_view file) {
  for (const auto& [name, text] : kSources)
    if (name == file) return text;
  return "";
}

}  // namespace

std::string program_source(std::string_view file) {
  return definitions() + source_of("common") + source_of("blocks") + source_of("steps") +
         source_of(file);
}

}  // namespace hadal::opencl
