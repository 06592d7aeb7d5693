// Planes whose layout is the chip's own: filled by kv_write, read back by gqa_attention.
#include <numeric>

#include "kit.h"

namespace hadal::conformance {
namespace {

// Of keys that only make gqa_attention possible.
constexpr int64_t kKeyWidth = 16;

uint32_t latent_role(const Case& c, uint32_t operand) {
  if (operand == HADAL_LATENT_ATTENTION_PLANE2) return HADAL_PLANE_ENTRY;
  if (c.operands[HADAL_LATENT_ATTENTION_PLANE2].present()) return HADAL_PLANE_WINDOW;
  if (c.attr.latent.segments[0].ratio > 1) return HADAL_PLANE_ENTRY;
  return c.operands[HADAL_LATENT_ATTENTION_TAIL].present() ? HADAL_PLANE_LATENT
                                                           : HADAL_PLANE_WINDOW;
}

uint32_t role_of(const Case& c, uint32_t operand) {
  switch (c.id) {
    case HADAL_OP_GQA_ATTENTION:
      return operand == HADAL_GQA_ATTENTION_K ? HADAL_PLANE_KEY : HADAL_PLANE_VALUE;
    case HADAL_OP_LATENT_ATTENTION:
      return latent_role(c, operand);
    case HADAL_OP_MLA_ATTENTION:
      return HADAL_PLANE_LATENT;
    case HADAL_OP_INDEX_TOPK:
    case HADAL_OP_INDEX_BLOCKS:
      return HADAL_PLANE_INDEX_KEY;
    case HADAL_OP_COMPRESS:
      return HADAL_PLANE_COMPRESSOR_ROW;
    default:
      return HADAL_PLANE_VALUE;  // as read_case reads it
  }
}

// Position, sequence and block table that name every slot of a plane once, in order.
struct AllSlots {
  std::vector<int32_t> position, blocks, zeros;
  explicit AllSlots(const Operand& plane)
      : position(static_cast<size_t>(plane.shape[0] * plane.shape[1])),
        blocks(static_cast<size_t>(plane.shape[0])),
        zeros(position.size(), 0) {
    std::iota(position.begin(), position.end(), 0);
    std::iota(blocks.begin(), blocks.end(), 0);
  }
  [[nodiscard]] Case begin(uint32_t id, uint32_t at_position, uint32_t row_seq,
                           uint32_t block_table, uint32_t from) const {
    Case c;
    c.id = id;
    const auto rows = static_cast<int64_t>(position.size());
    c.rows[HADAL_DIM_T] = rows;
    c.rows[HADAL_DIM_S] = 1;
    c.operands[at_position] = ints({rows}, HADAL_DIM_T, position);
    c.operands[row_seq] = ints({rows}, HADAL_DIM_T, zeros);
    c.operands[block_table] = ints({1, static_cast<int64_t>(blocks.size())}, HADAL_DIM_S, blocks);
    c.operands[from] = ints({1}, HADAL_DIM_S, {0});
    return c;
  }
};

}  // namespace

hadal_plane_desc plane_desc(const Case& c, uint32_t operand) {
  const Operand& o = c.operands[operand];
  hadal_plane_desc desc{};
  desc.size = sizeof desc;
  desc.dtype = o.dtype;
  desc.slots = o.shape[1];
  desc.width = o.shape[2];
  const bool said = o.plane_role != HADAL_PLANE_UNSAID;
  desc.role = said ? o.plane_role : role_of(c, operand);
  desc.heads = !said && c.id == HADAL_OP_GQA_ATTENTION ? c.attr.attention.kv_heads : o.plane_heads;
  return desc;
}

Case fill_case(const Operand& plane) {
  Case c = AllSlots(plane).begin(HADAL_OP_KV_WRITE, HADAL_KV_WRITE_POSITION, HADAL_KV_WRITE_ROW_SEQ,
                                 HADAL_KV_WRITE_BLOCK_TABLE, HADAL_KV_WRITE_WRITE_FROM);
  c.name = "a plane is filled";
  c.attr.kv_write.ratio = 1;
  c.operands[HADAL_KV_WRITE_X] =
      floats({c.rows[HADAL_DIM_T], plane.shape[2]}, HADAL_DIM_T, decode_all(plane));
  c.operands[HADAL_KV_WRITE_PLANE] = plane;
  c.operands[HADAL_KV_WRITE_PLANE].data.clear();
  return c;
}

Case read_case(const Operand& plane) {
  Case c = AllSlots(plane).begin(HADAL_OP_GQA_ATTENTION, HADAL_GQA_ATTENTION_POSITION,
                                 HADAL_GQA_ATTENTION_ROW_SEQ, HADAL_GQA_ATTENTION_BLOCK_TABLE,
                                 HADAL_GQA_ATTENTION_FIRST);
  c.name = "a plane is read back";
  // Every row sees its own position alone: its weight is 1, whatever its key is.
  c.attr.attention = {.scale = 1, .kv_heads = 1, .window = 1};
  const int64_t rows = c.rows[HADAL_DIM_T], width = plane.shape[2];
  const auto zeros = [](int64_t count) { return std::vector<float>(static_cast<size_t>(count)); };
  c.operands[HADAL_GQA_ATTENTION_Q] =
      floats({rows, 1, kKeyWidth}, HADAL_DIM_T, zeros(rows * kKeyWidth));
  Operand& k = c.operands[HADAL_GQA_ATTENTION_K] =
      output(plane.dtype, {plane.shape[0], plane.shape[1], kKeyWidth}, HADAL_DIM_CONST);
  k.plane = true;
  k.data = encode(zeros(k.count()), plane.dtype);
  c.operands[HADAL_GQA_ATTENTION_V] = plane;
  c.operands[HADAL_GQA_ATTENTION_OUT] = output(HADAL_F32, {rows, 1, width}, HADAL_DIM_T);
  return c;
}

}  // namespace hadal::conformance
