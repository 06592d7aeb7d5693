#include "families.h"

#include <fmt/format.h>

#include "contract/operators.h"

namespace hadal::conformance {
namespace {

std::vector<uint32_t> with(std::vector<uint32_t> ops, const std::vector<uint32_t>& more) {
  ops.insert(ops.end(), more.begin(), more.end());
  return ops;
}

std::vector<Family> make_families() {
  const std::vector<uint32_t> every = {HADAL_OP_EMBED,      HADAL_OP_MATMUL, HADAL_OP_NORM,
                                       HADAL_OP_ROPE,       HADAL_OP_SWIGLU, HADAL_OP_KV_WRITE,
                                       HADAL_OP_GATHER_ROWS};
  const std::vector<uint32_t> experts = {HADAL_OP_ROUTER, HADAL_OP_MOE_SORT,
                                         HADAL_OP_GROUPED_MATMUL, HADAL_OP_MOE_COMBINE};
  const std::vector<uint32_t> llama = with(every, {HADAL_OP_GQA_ATTENTION});
  const std::vector<uint32_t> mla = with(with(every, experts), {HADAL_OP_LATENT_ATTENTION});
  const std::vector<uint32_t> sparse = with(mla, {HADAL_OP_INDEX_TOPK});
  const std::vector<uint32_t> v4 =
      with(sparse, {HADAL_OP_COMPRESS, HADAL_OP_HC_PRE, HADAL_OP_HC_POST});
  return {{"llama", "Llama, Qwen and other dense models", llama},
          {"moe", "DeepSeek-MoE", with(llama, experts)},
          {"mla", "DeepSeek-V2, V3 and R1", mla},
          {"v3.2", "DeepSeek-V3.2", sparse},
          {"v4", "DeepSeek-V4", v4},
          {"v4.1", "DeepSeek-V4.1", with(v4, {HADAL_OP_INDEX_BLOCKS, HADAL_OP_ENGRAM_GATE})}};
}

/// The first decline of a check behind the name of that check, which a chip's own text often has,
/// behind the chip's: "chip: name: why".
std::string reason_of(const std::string& name, const std::string& reason) {
  if (reason.empty()) return name;
  const size_t at = reason.find(name + ": ");
  const bool names_it = at == 0 || (at != std::string::npos && reason.find(' ') + 1 == at);
  return names_it ? reason.substr(at) : name + ": " + reason;
}

/// Adds what one line means for a family.
struct Judge {
  Json failed = Json::array(), missing = Json::array(), open = Json::array();

  void look(const Line* line, const std::string& name, bool may_be_declined) {
    if (!line || line->cases == 0)
      open.push_back(name);
    else if (line->failed() != 0)
      failed.push_back(fmt::format("{}: {}", name, line->failures.front()));
    else if (may_be_declined && line->declined == line->cases)
      missing.push_back(reason_of(name, line->reason));
  }
};

}  // namespace

const std::vector<Family>& families() {
  static const std::vector<Family> all = make_families();
  return all;
}

const Family* find_family(const std::string& name) {
  for (const Family& f : families())
    if (name == f.name) return &f;
  return nullptr;
}

std::string model_line(const std::string& family) { return "model " + family; }

Json verdict(const Family& family, const Report& report) {
  Judge judge;
  for (const char* level : {"loads", "queues"}) judge.look(report.find(level), level, false);
  for (const uint32_t id : family.needs) {
    const std::string name = contract::op_name(id);
    judge.look(report.find(name), name, true);
  }
  const std::string model = model_line(family.name);
  judge.look(report.find(model), model, true);
  Json j = {{"family", family.name}, {"title", family.title}};
  Json needs = Json::array();
  for (const uint32_t id : family.needs) needs.push_back(contract::op_name(id));
  j["needs"] = needs;
  j["verdict"] = !judge.failed.empty()    ? "FAILED"
                 : !judge.missing.empty() ? "not offered"
                 : !judge.open.empty()    ? "not tested"
                                          : "pass";
  j["why"] = !judge.failed.empty()    ? judge.failed
             : !judge.missing.empty() ? judge.missing
                                      : judge.open;
  return j;
}

}  // namespace hadal::conformance
