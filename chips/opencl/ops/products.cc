// matmul, gated_matmul, grouped_matmul, moe_experts and lora_add. Kernels: kernels/products.cl, and
// for moe_experts those of experts.cl that sort and combine.
//
// moe_experts is moe_sort, the two products with swiglu in one, the third product, moe_combine: the
// bits of its lowering. What goes between them lies in the workspace.
#include "ops/operators.h"

namespace hadal::opencl {
namespace {

constexpr int64_t kTileRows = 4;  ///< TILE_ROWS of the kernel

/// Options of a build for weights of one type, and for steps of one row.
std::string variant(const Operand& w, bool one_row = false) {
  return "-DWEIGHT_TYPE=" + std::to_string(w.weight->type) + (one_row ? " -DTILE_ROWS=1" : "");
}
/// Weights of two types share the build that knows them all.
std::string variant(const Operand& a, const Operand& b) {
  return a.weight->type == b.weight->type ? variant(a) : "";
}

hadal_status run_matmul(Call& call) {
  const Operand &x = call[HADAL_MATMUL_X], &w = call[HADAL_MATMUL_W];
  const bool one = x.extents[0] == 1;
  const int64_t tiles = one ? 1 : (x.extents[0] + kTileRows - 1) / kTileRows;
  return for_parts(call, {HADAL_MATMUL_W}, [&](const Rows& rows) {
    return Launch(call, "products", "matmul", variant(w, one))
        .rows_of_heads(HADAL_MATMUL_X)
        .weight(HADAL_MATMUL_W, rows)
        .vector(HADAL_MATMUL_BIAS)
        .given(HADAL_MATMUL_BIAS)
        .rows_of_heads(HADAL_MATMUL_ADD)
        .given(HADAL_MATMUL_ADD)
        .rows_of_heads(HADAL_MATMUL_OUT)
        .number(x.extents[0])
        .rows(rows)
        .number(w.extents[w.rank - 2])
        .number(w.extents[w.rank - 1])
        .run_items(rows.count, tiles);
  });
}

hadal_status run_grouped_matmul(Call& call) {
  const Operand &x = call[HADAL_GROUPED_MATMUL_X], &w = call[HADAL_GROUPED_MATMUL_W];
  const Operand& out = call[HADAL_GROUPED_MATMUL_OUT];
  return for_parts(call, {HADAL_GROUPED_MATMUL_W}, [&](const Rows& rows) {
    return Launch(call, "products", "grouped_matmul", variant(w))
        .matrix(HADAL_GROUPED_MATMUL_X)
        .number(x.extents[0])
        .weight(HADAL_GROUPED_MATMUL_W, rows)
        .vector(HADAL_GROUPED_MATMUL_OFFSET)
        .vector(HADAL_GROUPED_MATMUL_ORDER)
        .given(HADAL_GROUPED_MATMUL_ORDER)
        .matrix(HADAL_GROUPED_MATMUL_OUT)
        .number(w.extents[0])
        .rows(rows)
        .number(w.extents[1])
        .number(w.extents[2])
        .number(call.op->attr.experts.fan)
        .run_items(w.extents[1], out.extents[0]);
  });
}

hadal_status run_gated_matmul(Call& call) {
  const Operand &w = call[HADAL_GATED_MATMUL_GATE], &out = call[HADAL_GATED_MATMUL_OUT];
  return for_parts(call, {HADAL_GATED_MATMUL_GATE, HADAL_GATED_MATMUL_UP}, [&](const Rows& rows) {
    return Launch(call, "products", "gated_matmul", variant(w, call[HADAL_GATED_MATMUL_UP]))
        .matrix(HADAL_GATED_MATMUL_X)
        .weight(HADAL_GATED_MATMUL_GATE, rows)
        .weight(HADAL_GATED_MATMUL_UP, rows)
        .matrix(HADAL_GATED_MATMUL_OUT)
        .rows(rows)
        .number(w.extents[1])
        .real(call.op->attr.swiglu.clamp)
        .run_items(rows.count, out.extents[0]);
  });
}

/// The workspace of moe_experts, in words: what moe_sort puts out, and a row of the hidden numbers
/// and one of the result for each pair.
struct ExpertsWork {
  int64_t order, place, offset, row_weight, hidden, down, words;

  ExpertsWork(int64_t pairs, int64_t experts, int64_t width, int64_t n) {
    int64_t next = 0;
    const auto take = [&](int64_t count) {
      const int64_t at = next;
      next += (count + 15) / 16 * 16;
      return at;
    };
    order = take(pairs);
    place = take(pairs);
    offset = take(experts + 1);
    row_weight = take(pairs);
    hidden = take(pairs * width);
    down = take(pairs * n);
    words = next;
  }
};

uint64_t experts_workspace(const hadal_op&, const hadal_tensor* t, const int64_t* limits) {
  const hadal_tensor &expert = t[HADAL_MOE_EXPERTS_EXPERT], &down = t[HADAL_MOE_EXPERTS_DOWN];
  const int64_t pairs = expert.extents[0] * limits[expert.row_dim] * expert.extents[1];
  const ExpertsWork work(pairs, down.extents[0], down.extents[2], down.extents[1]);
  return static_cast<uint64_t>(work.words) * 4;
}

/// One moe_experts in one step.
class Experts {
 public:
  explicit Experts(Call& call)
      : call_(call),
        a_(call.op->attr.experts),
        rows_(call[HADAL_MOE_EXPERTS_EXPERT].extents[0]),
        fan_(call[HADAL_MOE_EXPERTS_EXPERT].extents[1]),
        pairs_(rows_ * fan_),
        experts_(call[HADAL_MOE_EXPERTS_DOWN].extents[0]),
        n_(call[HADAL_MOE_EXPERTS_DOWN].extents[1]),
        width_(call[HADAL_MOE_EXPERTS_DOWN].extents[2]),
        work_(pairs_, experts_, width_, n_) {}

  hadal_status sort() {
    return Launch(call_, "experts", "moe_sort")
        .matrix(HADAL_MOE_EXPERTS_EXPERT)
        .matrix(HADAL_MOE_EXPERTS_WEIGHT)
        .workspace_vector(work_.order)
        .workspace_vector(work_.place)
        .workspace_vector(work_.offset)
        .workspace_vector(work_.row_weight)
        .number(rows_)
        .number(fan_)
        .number(experts_)
        .number(a_.of == 0 ? 0 : a_.first)
        .number(a_.of == 0 ? experts_ : a_.of)
        .run_items(experts_, rows_ > 0 ? 1 : 0);
  }

  hadal_status enter() {
    return for_parts(call_, {HADAL_MOE_EXPERTS_GATE, HADAL_MOE_EXPERTS_UP}, [&](const Rows& rows) {
      return Launch(call_, "products", "gated_experts",
                    variant(call_[HADAL_MOE_EXPERTS_GATE], call_[HADAL_MOE_EXPERTS_UP]))
          .matrix(HADAL_MOE_EXPERTS_X)
          .weight(HADAL_MOE_EXPERTS_GATE, rows)
          .weight(HADAL_MOE_EXPERTS_UP, rows)
          .workspace_vector(work_.offset)
          .workspace_vector(work_.order)
          .workspace_vector(work_.row_weight)
          .workspace_matrix(work_.hidden, width_)
          .number(experts_)
          .rows(rows)
          .number(width_)
          .number(n_)
          .number(fan_)
          .real(a_.clamp)
          .run_items(width_, pairs_);
    });
  }

  hadal_status leave() {
    return for_parts(call_, {HADAL_MOE_EXPERTS_DOWN}, [&](const Rows& rows) {
      return Launch(call_, "products", "grouped_matmul", variant(call_[HADAL_MOE_EXPERTS_DOWN]))
          .workspace_matrix(work_.hidden, width_)
          .number(pairs_)
          .weight(HADAL_MOE_EXPERTS_DOWN, rows)
          .workspace_vector(work_.offset)
          .workspace_vector(work_.order)
          .number(0)
          .workspace_matrix(work_.down, n_)
          .number(experts_)
          .rows(rows)
          .number(n_)
          .number(width_)
          .number(1)
          .run_items(n_, pairs_);
    });
  }

  hadal_status combine() {
    return Launch(call_, "experts", "moe_combine")
        .workspace_matrix(work_.down, n_)
        .workspace_vector(work_.place)
        .matrix(HADAL_MOE_EXPERTS_SHARED)
        .given(HADAL_MOE_EXPERTS_SHARED)
        .matrix(HADAL_MOE_EXPERTS_ADD)
        .given(HADAL_MOE_EXPERTS_ADD)
        .matrix(HADAL_MOE_EXPERTS_OUT)
        .number(n_)
        .number(fan_)
        .number(pairs_)
        .run_items(n_, rows_);
  }

 private:
  Call& call_;
  const hadal_experts_attr& a_;
  int64_t rows_, fan_, pairs_, experts_, n_, width_;
  ExpertsWork work_;
};

hadal_status run_moe_experts(Call& call) {
  Experts experts(call);
  for (const auto part : {&Experts::sort, &Experts::enter, &Experts::leave, &Experts::combine})
    if (const hadal_status status = (experts.*part)(); status != HADAL_OK) return status;
  return HADAL_OK;
}

/// A x of every row.
uint64_t lora_workspace(const hadal_op&, const hadal_tensor* t, const int64_t* limits) {
  const hadal_tensor& x = t[HADAL_LORA_ADD_X];
  return static_cast<uint64_t>(x.extents[0] * limits[x.row_dim] * t[HADAL_LORA_ADD_A].extents[1] *
                               4);
}

hadal_status run_lora_add(Call& call) {
  const Operand &a = call[HADAL_LORA_ADD_A], &out = call[HADAL_LORA_ADD_OUT];
  const int64_t rank = a.extents[1];
  const hadal_status status = for_parts(call, {HADAL_LORA_ADD_A}, [&](const Rows& rows) {
    return Launch(call, "products", "lora_down", variant(a))
        .matrix(HADAL_LORA_ADD_X)
        .weight(HADAL_LORA_ADD_A, rows)
        .vector(HADAL_LORA_ADD_ADAPTER)
        .vector(HADAL_LORA_ADD_ROW_SEQ)
        .workspace_matrix(0, rank)
        .number(call[HADAL_LORA_ADD_ADAPTER].extents[0])
        .number(a.extents[0])
        .rows(rows)
        .number(rank)
        .number(a.extents[2])
        .run_items(rank, out.extents[0]);
  });
  if (status != HADAL_OK) return status;
  return for_parts(call, {HADAL_LORA_ADD_B}, [&](const Rows& rows) {
    return Launch(call, "products", "lora_up", variant(call[HADAL_LORA_ADD_B]))
        .workspace_matrix(0, rank)
        .weight(HADAL_LORA_ADD_B, rows)
        .vector(HADAL_LORA_ADD_ADAPTER)
        .vector(HADAL_LORA_ADD_ROW_SEQ)
        .matrix(HADAL_LORA_ADD_OUT)
        .number(call[HADAL_LORA_ADD_ADAPTER].extents[0])
        .number(a.extents[0])
        .rows(rows)
        .number(out.extents[1])
        .number(rank)
        .run_items(out.extents[1], out.extents[0]);
  });
}

}  // namespace

const Operator kGatedMatmul = {HADAL_OP_GATED_MATMUL, nullptr, nullptr, run_gated_matmul};
const Operator kMoeExperts = {HADAL_OP_MOE_EXPERTS, nullptr, experts_workspace, run_moe_experts};
const Operator kLoraAdd = {HADAL_OP_LORA_ADD, nullptr, lora_workspace, run_lora_add};
const Operator kMatmul = {HADAL_OP_MATMUL, nullptr, nullptr, run_matmul};
const Operator kGroupedMatmul = {HADAL_OP_GROUPED_MATMUL, nullptr, nullptr, run_grouped_matmul};

}  // namespace hadal::opencl
