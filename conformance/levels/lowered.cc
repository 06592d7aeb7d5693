// What a fused operator stands for: the parts that src/ops/lower.cc would emit, run on ref one
// after the other.
#include <stdexcept>

#include "kit.h"

namespace hadal::conformance {
namespace {

/// Parts of one case.
class Parts {
 public:
  Parts(const Case& whole, const Device& ref) : whole_(whole), ref_(ref) {}

  [[nodiscard]] Case begin(uint32_t id) const {
    Case part;
    part.id = id;
    part.rows = whole_.rows;
    return part;
  }
  /// Runs the part; its outputs hold their values then.
  void run(Case& part) const {
    const Layout layout = lay_out(part, ref_.placement);
    const Outcome outcome = run_case(part, layout, ref_, 0xff);
    if (outcome.status != HADAL_OK) throw std::runtime_error(outcome.text);
    for (uint32_t i = 0; i < HADAL_MAX_OPERANDS; ++i)
      if (part.operands[i].present() && is_written(part.id, i))
        part.operands[i].data = extract(layout, outcome.images, i);
  }

  const Case& whole_;

 private:
  const Device& ref_;
};

Operand moe_experts(const Parts& parts) {
  const auto& whole = parts.whole_.operands;
  const int64_t tokens = whole[HADAL_MOE_EXPERTS_EXPERT].shape[0];
  const int64_t fan = whole[HADAL_MOE_EXPERTS_EXPERT].shape[1], pairs = tokens * fan;
  hadal_attributes attr{};
  attr.experts.fan = static_cast<uint32_t>(fan);
  const auto of_pairs = [&](uint32_t dtype, std::vector<int64_t> shape) {
    return per_row(output(dtype, std::move(shape), HADAL_DIM_T), fan);
  };

  Case sort = parts.begin(HADAL_OP_MOE_SORT);
  sort.attr.experts.first = parts.whole_.attr.experts.first;
  sort.attr.experts.of = parts.whole_.attr.experts.of;
  sort.operands[HADAL_MOE_SORT_EXPERT] = whole[HADAL_MOE_EXPERTS_EXPERT];
  sort.operands[HADAL_MOE_SORT_WEIGHT] = whole[HADAL_MOE_EXPERTS_WEIGHT];
  sort.operands[HADAL_MOE_SORT_ORDER] = of_pairs(HADAL_I32, {pairs});
  sort.operands[HADAL_MOE_SORT_PLACE] = of_pairs(HADAL_I32, {pairs});
  sort.operands[HADAL_MOE_SORT_OFFSET] =
      output(HADAL_I32, {whole[HADAL_MOE_EXPERTS_GATE].shape[0] + 1}, HADAL_DIM_CONST);
  sort.operands[HADAL_MOE_SORT_ROW_WEIGHT] = of_pairs(HADAL_F32, {pairs});
  parts.run(sort);

  const auto product = [&](const Operand& x, const Operand& order, const Operand& weight) {
    Case grouped = parts.begin(HADAL_OP_GROUPED_MATMUL);
    grouped.attr = attr;
    grouped.operands[HADAL_GROUPED_MATMUL_X] = x;
    grouped.operands[HADAL_GROUPED_MATMUL_W] = weight;
    grouped.operands[HADAL_GROUPED_MATMUL_OFFSET] = sort.operands[HADAL_MOE_SORT_OFFSET];
    grouped.operands[HADAL_GROUPED_MATMUL_ORDER] = order;
    grouped.operands[HADAL_GROUPED_MATMUL_OUT] = of_pairs(HADAL_F32, {pairs, weight.shape[1]});
    parts.run(grouped);
    return grouped.operands[HADAL_GROUPED_MATMUL_OUT];
  };
  Case swiglu = parts.begin(HADAL_OP_SWIGLU);
  swiglu.attr.swiglu.clamp = parts.whole_.attr.experts.clamp;
  for (const auto& [to, from] : {std::pair{HADAL_SWIGLU_GATE, HADAL_MOE_EXPERTS_GATE},
                                 std::pair{HADAL_SWIGLU_UP, HADAL_MOE_EXPERTS_UP}})
    swiglu.operands[to] =
        product(whole[HADAL_MOE_EXPERTS_X], sort.operands[HADAL_MOE_SORT_ORDER], whole[from]);
  swiglu.operands[HADAL_SWIGLU_WEIGHT] = sort.operands[HADAL_MOE_SORT_ROW_WEIGHT];
  swiglu.operands[HADAL_SWIGLU_OUT] = of_pairs(HADAL_F32, swiglu.operands[HADAL_SWIGLU_GATE].shape);
  parts.run(swiglu);

  Case combine = parts.begin(HADAL_OP_MOE_COMBINE);
  combine.attr = attr;
  combine.operands[HADAL_MOE_COMBINE_X] =
      product(swiglu.operands[HADAL_SWIGLU_OUT], Operand(), whole[HADAL_MOE_EXPERTS_DOWN]);
  combine.operands[HADAL_MOE_COMBINE_PLACE] = sort.operands[HADAL_MOE_SORT_PLACE];
  combine.operands[HADAL_MOE_COMBINE_SHARED] = whole[HADAL_MOE_EXPERTS_SHARED];
  const bool in_place = whole[HADAL_MOE_EXPERTS_ADD].alias >= 0;
  combine.operands[HADAL_MOE_COMBINE_ADD] =
      whole[in_place ? HADAL_MOE_EXPERTS_OUT : HADAL_MOE_EXPERTS_ADD];
  combine.operands[HADAL_MOE_COMBINE_OUT] =
      output(HADAL_F32, whole[HADAL_MOE_EXPERTS_OUT].shape, HADAL_DIM_T);
  parts.run(combine);
  return combine.operands[HADAL_MOE_COMBINE_OUT];
}

Operand mla_attention(const Parts& parts) {
  const auto& whole = parts.whole_.operands;
  const auto product = [&](const Operand& x, const Operand& weight) {
    Case matmul = parts.begin(HADAL_OP_MATMUL);
    matmul.operands[HADAL_MATMUL_X] = x;
    matmul.operands[HADAL_MATMUL_W] = weight;
    matmul.operands[HADAL_MATMUL_OUT] =
        output(HADAL_F32, {x.shape[0], weight.shape[0], weight.shape[1]}, HADAL_DIM_T);
    parts.run(matmul);
    return matmul.operands[HADAL_MATMUL_OUT];
  };
  Case latent = parts.begin(HADAL_OP_LATENT_ATTENTION);
  latent.attr = parts.whole_.attr;
  latent.operands[HADAL_LATENT_ATTENTION_Q] =
      product(whole[HADAL_MLA_ATTENTION_Q_NOPE], whole[HADAL_MLA_ATTENTION_W_UK]);
  latent.operands[HADAL_LATENT_ATTENTION_TAIL] = whole[HADAL_MLA_ATTENTION_Q_ROPE];
  for (const auto& [to, from] :
       {std::pair{HADAL_LATENT_ATTENTION_POSITION, HADAL_MLA_ATTENTION_POSITION},
        std::pair{HADAL_LATENT_ATTENTION_ROW_SEQ, HADAL_MLA_ATTENTION_ROW_SEQ},
        std::pair{HADAL_LATENT_ATTENTION_PLANE, HADAL_MLA_ATTENTION_PLANE},
        std::pair{HADAL_LATENT_ATTENTION_BLOCK_TABLE, HADAL_MLA_ATTENTION_BLOCK_TABLE},
        std::pair{HADAL_LATENT_ATTENTION_FIRST, HADAL_MLA_ATTENTION_FIRST},
        std::pair{HADAL_LATENT_ATTENTION_LIST, HADAL_MLA_ATTENTION_LIST}})
    latent.operands[to] = whole[from];
  latent.operands[HADAL_LATENT_ATTENTION_OUT] =
      output(HADAL_F32, latent.operands[HADAL_LATENT_ATTENTION_Q].shape, HADAL_DIM_T);
  parts.run(latent);
  return product(latent.operands[HADAL_LATENT_ATTENTION_OUT], whole[HADAL_MLA_ATTENTION_W_UV]);
}

}  // namespace

bool has_parts(uint32_t id) { return id == HADAL_OP_MOE_EXPERTS || id == HADAL_OP_MLA_ATTENTION; }

Bytes run_parts(const Case& c, const Device& ref) {
  const Parts parts(c, ref);
  return (c.id == HADAL_OP_MOE_EXPERTS ? moe_experts(parts) : mla_attention(parts)).data;
}

}  // namespace hadal::conformance
