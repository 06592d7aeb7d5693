// The fused operators that the good chip declines, taken here: run as their parts
// (src/ops/lower.cc) in a scratch memory that is a little larger.
#include <algorithm>

#include "faulty.h"

namespace hadal::faulty {
namespace {

/// A tape of the parts.
struct Parts {
  explicit Parts(const Call& from)
      : call(from), tensors(from.tape->tensors, from.tape->tensors + from.tape->tensor_count) {}

  const Call& call;
  std::vector<hadal_tensor> tensors;
  std::vector<hadal_op> ops;
  uint64_t used = 0;  // of the room behind the step's scratch memory

  [[nodiscard]] int32_t operand(uint32_t i) const { return call.op.operands[i]; }
  [[nodiscard]] const hadal_tensor& tensor(uint32_t i) const {
    return call.tape->tensors[operand(i)];
  }
  [[nodiscard]] uint64_t scratch_bytes() const {
    return host_chip::memory(call.step->scratch)->bytes / 64 * 64 + 64;
  }

  /// A temporary, with rows of the step's count T.
  int32_t temporary(uint32_t dtype, std::vector<int64_t> extents, uint32_t dim = HADAL_DIM_T) {
    hadal_tensor t{};
    t.dtype = dtype;
    t.space = HADAL_SPACE_SCRATCH;
    t.row_dim = dim;
    t.rank = static_cast<uint32_t>(extents.size());
    std::fill(std::begin(t.extents), std::end(t.extents), 1);
    std::copy(extents.begin(), extents.end(), t.extents);
    int64_t stride = 4;
    for (uint32_t d = t.rank; d-- > 0; stride *= t.extents[d]) t.strides[d] = stride;
    t.offset = scratch_bytes() + used;
    used += static_cast<uint64_t>(stride * call.tape->limits[dim] + 63) / 64 * 64;
    tensors.push_back(t);
    return static_cast<int32_t>(tensors.size()) - 1;
  }

  void add(uint32_t id, std::initializer_list<int32_t> operands, const hadal_attributes& attr) {
    hadal_op op{};
    op.id = id;
    op.attr = attr;
    std::fill(std::begin(op.operands), std::end(op.operands), -1);
    std::copy(operands.begin(), operands.end(), op.operands);
    ops.push_back(op);
  }

  hadal_status run(hadal_queue* queue, OpRun good, hadal_error* error) {
    const host_chip::Memory* scratch = host_chip::memory(call.step->scratch);
    std::vector<std::byte> larger(scratch_bytes() + used), workspace(size_t{1} << 22);
    std::copy_n(scratch->data, scratch->bytes, larger.data());
    host_chip::Memory memories[] = {{larger.data(), larger.size(), false},
                                    {workspace.data(), workspace.size(), false}};
    hadal_step step = *call.step;
    step.scratch = reinterpret_cast<hadal_memory*>(&memories[0]);
    step.workspace = reinterpret_cast<hadal_memory*>(&memories[1]);
    hadal_tape tape = *call.tape;
    tape.tensors = tensors.data();
    tape.tensor_count = static_cast<uint32_t>(tensors.size());
    tape.ops = ops.data();
    tape.op_count = static_cast<uint32_t>(ops.size());
    tape.scratch_bytes = larger.size();
    const hadal_status status = good(queue, &tape, 0, tape.op_count, &step, error);
    std::copy_n(larger.data(), scratch->bytes, scratch->data);
    return status;
  }
};

void add_moe_experts(Parts& parts) {
  const int64_t fan = parts.tensor(HADAL_MOE_EXPERTS_EXPERT).extents[1];
  const hadal_tensor& gate = parts.tensor(HADAL_MOE_EXPERTS_GATE);
  const int64_t experts = gate.extents[0], width = gate.extents[1], d = gate.extents[2];
  const int32_t order = parts.temporary(HADAL_I32, {fan}),
                place = parts.temporary(HADAL_I32, {fan}),
                offset = parts.temporary(HADAL_I32, {experts + 1}, HADAL_DIM_CONST),
                row_weight = parts.temporary(HADAL_F32, {fan}),
                hidden = parts.temporary(HADAL_F32, {fan, width}),
                up = parts.temporary(HADAL_F32, {fan, width}),
                y = parts.temporary(HADAL_F32, {fan, d});
  hadal_attributes attr{}, clamp{}, range{};
  range.experts.first = parts.call.op.attr.experts.first;
  range.experts.of = parts.call.op.attr.experts.of;
  attr.experts.fan = static_cast<uint32_t>(fan);
  clamp.swiglu.clamp =
      parts.call.fault == kFusedIgnoresClamp ? 0 : parts.call.op.attr.experts.clamp;
  const int32_t x = parts.operand(HADAL_MOE_EXPERTS_X);
  parts.add(HADAL_OP_MOE_SORT,
            {parts.operand(HADAL_MOE_EXPERTS_EXPERT), parts.operand(HADAL_MOE_EXPERTS_WEIGHT),
             order, place, offset, row_weight},
            range);
  parts.add(HADAL_OP_GROUPED_MATMUL,
            {x, parts.operand(HADAL_MOE_EXPERTS_GATE), offset, order, hidden}, attr);
  parts.add(HADAL_OP_GROUPED_MATMUL, {x, parts.operand(HADAL_MOE_EXPERTS_UP), offset, order, up},
            attr);
  parts.add(HADAL_OP_SWIGLU,
            {hidden, up, parts.call.fault == kFusedIgnoresWeights ? -1 : row_weight, hidden},
            clamp);
  parts.add(HADAL_OP_GROUPED_MATMUL, {hidden, parts.operand(HADAL_MOE_EXPERTS_DOWN), offset, -1, y},
            attr);
  parts.add(HADAL_OP_MOE_COMBINE,
            {y, place,
             parts.call.fault == kFusedForgetsShared ? -1 : parts.operand(HADAL_MOE_EXPERTS_SHARED),
             parts.operand(HADAL_MOE_EXPERTS_ADD), parts.operand(HADAL_MOE_EXPERTS_OUT)},
            attr);
}

void add_mla_attention(Parts& parts) {
  const hadal_tensor& w_uk = parts.tensor(HADAL_MLA_ATTENTION_W_UK);
  const int64_t heads = w_uk.extents[0], rank = w_uk.extents[1];
  const int32_t q = parts.temporary(HADAL_F32, {1, heads, rank}),
                mixed = parts.temporary(HADAL_F32, {1, heads, rank});
  hadal_attributes attr = parts.call.op.attr;
  if (parts.call.fault == kFusedIgnoresScale) attr.latent.scale = 1;
  const bool no_list = parts.call.fault == kFusedIgnoresList;
  const auto product = [&](int32_t x, uint32_t weight, int32_t out) {
    parts.add(HADAL_OP_MATMUL, {x, parts.operand(weight), -1, -1, out}, {});
  };
  product(parts.operand(HADAL_MLA_ATTENTION_Q_NOPE), HADAL_MLA_ATTENTION_W_UK, q);
  parts.add(
      HADAL_OP_LATENT_ATTENTION,
      {q, parts.operand(HADAL_MLA_ATTENTION_Q_ROPE), parts.operand(HADAL_MLA_ATTENTION_POSITION),
       parts.operand(HADAL_MLA_ATTENTION_ROW_SEQ), parts.operand(HADAL_MLA_ATTENTION_PLANE),
       parts.operand(HADAL_MLA_ATTENTION_BLOCK_TABLE), parts.operand(HADAL_MLA_ATTENTION_FIRST),
       no_list ? -1 : parts.operand(HADAL_MLA_ATTENTION_LIST), -1, -1, -1, -1, -1, mixed},
      attr);
  product(mixed, HADAL_MLA_ATTENTION_W_UV, parts.operand(HADAL_MLA_ATTENTION_OUT));
}

}  // namespace

bool is_fused(uint32_t id) { return id == HADAL_OP_MOE_EXPERTS || id == HADAL_OP_MLA_ATTENTION; }

hadal_status run_fused(const Call& call, hadal_queue* queue, OpRun good, hadal_error* error) {
  Parts parts(call);
  if (call.op.id == HADAL_OP_MOE_EXPERTS)
    add_moe_experts(parts);
  else
    add_mla_attention(parts);
  return parts.run(queue, good, error);
}

}  // namespace hadal::faulty
