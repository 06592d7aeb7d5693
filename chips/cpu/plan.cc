#include "plan.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/dtype.h"

namespace hadal::cpu {
namespace {

using host_chip::report;

constexpr uint32_t kWorkspace = 100;  ///< as a space in Access: the plan's own memory

/// Bytes that a stage reads or writes. Rows of `width` bytes every `stride`: columns of one buffer
/// do not meet.
struct Access {
  uint32_t space = HADAL_SPACE_NONE;
  uint32_t index = 0;
  uint64_t begin = 0, end = 0;
  uint64_t stride = 0, width = 0;
  bool write = false;
};

bool overlap(const Access& a, const Access& b) {
  if (a.space != b.space || a.index != b.index || a.begin >= b.end || b.begin >= a.end)
    return false;
  if (a.stride == b.stride && a.stride != 0) {
    const uint64_t x = a.begin % a.stride, y = b.begin % a.stride;
    if (x + a.width <= a.stride && y + b.width <= a.stride &&
        (x + a.width <= y || y + b.width <= x))
      return false;
  }
  return true;
}

Access access_of(const hadal_tensor& t, const int64_t* limits, bool write) {
  Access a;
  a.space = t.space;
  a.write = write;
  if (t.space == HADAL_SPACE_PLANE) {
    a.index = t.index;
    a.end = UINT64_MAX;
    return a;
  }
  const int64_t rows = t.extents[0] * limits[t.row_dim];
  int64_t width = dtype_info(static_cast<DType>(t.dtype))->block_bytes;
  for (uint32_t d = 1; d < t.rank; ++d)
    width += std::max<int64_t>(0, t.extents[d] - 1) * t.strides[d];
  if (t.rank == 1) width = t.strides[0];
  a.width = static_cast<uint64_t>(width);
  a.stride = t.rank == 1 ? 0 : static_cast<uint64_t>(t.strides[0]);
  a.begin = t.offset;
  a.end = t.offset + static_cast<uint64_t>(std::max<int64_t>(0, rows - 1) * t.strides[0] + width);
  if (rows == 0) a.end = a.begin;
  return a;
}

bool same_tensor(const hadal_tensor& a, const hadal_tensor& b) {
  return a.dtype == b.dtype && a.space == b.space && a.rank == b.rank && a.row_dim == b.row_dim &&
         a.offset == b.offset && a.index == b.index && a.weight == b.weight &&
         std::memcmp(a.extents, b.extents, sizeof a.extents) == 0 &&
         std::memcmp(a.strides, b.strides, sizeof a.strides) == 0;
}

bool quantises(const hadal_tensor& w) { return w.weight && weight_of(w.weight)->quantises(); }

/// Operands that hold indices, checked before a step if the host writes them.
bool has_indices(uint32_t id) {
  switch (id) {
    case HADAL_OP_EMBED:
    case HADAL_OP_GATHER_ROWS:
    case HADAL_OP_KV_WRITE:
    case HADAL_OP_GQA_ATTENTION:
    case HADAL_OP_COPY_BLOCKS:
    case HADAL_OP_SAMPLE:
    case HADAL_OP_ROUTER:
    case HADAL_OP_MOE_SORT:
    case HADAL_OP_GROUPED_MATMUL:
    case HADAL_OP_MOE_COMBINE:
    case HADAL_OP_LATENT_ATTENTION:
    case HADAL_OP_INDEX_TOPK:
    case HADAL_OP_INDEX_BLOCKS:
    case HADAL_OP_COMPRESS:
      return true;
    default:
      return false;
  }
}

/// Operators whose work may be split in two: parts that go through the workspace, and what is made
/// of them.
constexpr std::pair<StageKind, StageKind> kTwoParts[] = {
    {StageKind::kAttention, StageKind::kAttentionMerge},
    {StageKind::kIndex, StageKind::kIndexSelect},
};
bool is_second_part(StageKind kind) {
  return kind == StageKind::kAttentionMerge || kind == StageKind::kIndexSelect;
}

}  // namespace

/// Turns operators into stages.
class PlanBuilder {
 public:
  PlanBuilder(Plan& plan, const hadal_tape& tape) : plan_(plan), tape_(tape) {}

  hadal_status add(uint32_t index, hadal_error* error) {
    const hadal_op& op = plan_.ops_[index];
    hadal_tensor operands[HADAL_MAX_OPERANDS] = {};
    for (uint32_t i = 0; i < host_chip::operand_count(op.id); ++i) {
      if (op.operands[i] >= static_cast<int32_t>(tape_.tensor_count))
        return report(error, HADAL_INVALID,
                      std::string(host_chip::op_name(op.id)) + ": an operand is not in the tape");
      if (op.operands[i] >= 0) operands[i] = tape_.tensors[op.operands[i]];
      if (operands[i].space == HADAL_SPACE_PLANE && operands[i].index >= tape_.plane_count)
        return report(
            error, HADAL_INVALID,
            std::string(host_chip::op_name(op.id)) + ": a plane that the tape does not have");
      if (operands[i].space == HADAL_SPACE_WEIGHT && !operands[i].weight)
        return report(error, HADAL_INVALID,
                      std::string(host_chip::op_name(op.id)) + ": " +
                          host_chip::operand_name(op.id, i) + " is not bound to a weight");
    }
    uint64_t workspace = 0;
    if (const hadal_status s = query_op(op, operands, tape_.limits, &workspace, error);
        s != HADAL_OK)
      return s;
    plan_.temp_bytes_ = std::max(plan_.temp_bytes_, temp_bytes_of(op, operands));
    const size_t first_stage = plan_.stages_.size();
    const Stage main = prepare_main(index, op, operands, workspace);
    push(main, op, operands);
    if (main.buffer_bytes != 0)
      for (const auto& [first, second] : kTwoParts)
        if (main.kind == first) {
          Stage rest = main;
          rest.kind = second;
          push(rest, op, operands);
        }
    note_writes(op, operands);
    if (plan_.eager_ && first_stage < plan_.stages_.size())
      plan_.stages_[first_stage].barrier[0] = plan_.stages_[first_stage].barrier[1] = true;
    if (has_indices(op.id)) note_check(index, op, operands);
    return HADAL_OK;
  }

 private:
  /// The stage of the operator itself; pushes those that must come before it.
  Stage prepare_main(uint32_t index, const hadal_op& op, const hadal_tensor* t,
                     uint64_t workspace) {
    Stage s{.kind = StageKind::kMatmul, .op = index};
    switch (op.id) {
      case HADAL_OP_MATMUL:
        if (quantises(t[HADAL_MATMUL_W])) share_quants(s, op, t, workspace);
        break;
      case HADAL_OP_GATED_MATMUL:
        s.kind = StageKind::kGatedMatmul;
        if (quantises(t[HADAL_GATED_MATMUL_GATE]) || quantises(t[HADAL_GATED_MATMUL_UP]))
          share_quants(s, op, t, workspace);
        break;
      case HADAL_OP_EMBED:
        s.kind = StageKind::kEmbed;
        break;
      case HADAL_OP_NORM:
        s.kind = StageKind::kNorm;
        break;
      case HADAL_OP_ROPE:
        s.kind = StageKind::kRope;
        if (!plan_.eager_ && t[HADAL_ROPE_POSITION].space == HADAL_SPACE_INPUT && !writes_inputs())
          share_table(s, op, t);
        break;
      case HADAL_OP_SWIGLU:
        s.kind = StageKind::kSwiglu;
        break;
      case HADAL_OP_ADD:
        s.kind = StageKind::kAdd;
        break;
      case HADAL_OP_KV_WRITE:
        s.kind = StageKind::kKvWrite;
        break;
      case HADAL_OP_GQA_ATTENTION:
        s.kind = StageKind::kAttention;
        share_parts(s, workspace);
        break;
      case HADAL_OP_GATHER_ROWS:
        s.kind = StageKind::kGatherRows;
        break;
      case HADAL_OP_COPY_BLOCKS:
        s.kind = StageKind::kCopyBlocks;
        break;
      case HADAL_OP_CONVERT:
        s.kind = StageKind::kConvert;
        break;
      case HADAL_OP_LATENT_ATTENTION:
        s.kind = StageKind::kAttention;
        break;
      case HADAL_OP_INDEX_TOPK:
      case HADAL_OP_INDEX_BLOCKS:
        s.kind = StageKind::kIndex;
        share_parts(s, workspace);
        break;
      case HADAL_OP_COMPRESS:
        s.kind = StageKind::kCompress;
        break;
      case HADAL_OP_HC_PRE:
        s.kind = StageKind::kHcPre;
        break;
      case HADAL_OP_HC_POST:
        s.kind = StageKind::kHcPost;
        break;
      case HADAL_OP_ENGRAM_GATE:
        s.kind = StageKind::kEngramGate;
        break;
      case HADAL_OP_ROUTER:
        s.kind = StageKind::kRouter;
        break;
      case HADAL_OP_MOE_SORT:
        s.kind = StageKind::kMoeSort;
        break;
      case HADAL_OP_GROUPED_MATMUL:
        s.kind = StageKind::kGroupedMatmul;
        break;
      case HADAL_OP_MOE_COMBINE:
        s.kind = StageKind::kMoeCombine;
        break;
      default:
        s.kind = StageKind::kSample;
        break;
    }
    return s;
  }

  uint64_t allocate(uint64_t bytes) {
    const uint64_t at = plan_.workspace_bytes_;
    plan_.workspace_bytes_ += (bytes + 63) / 64 * 64;
    return at;
  }

  // The parts of all operators use one buffer; it grows to the largest.
  void share_parts(Stage& s, uint64_t bytes) {
    s.buffer_bytes = bytes;
    if (plan_.eager_) {
      plan_.workspace_bytes_ = std::max(plan_.workspace_bytes_, bytes);
      return;
    }
    if (bytes > parts_bytes_) {
      parts_at_ = allocate(bytes);
      parts_bytes_ = bytes;
    }
    s.buffer = parts_at_;
  }

  /// Quantised activations of X: those made last if X is the same and unwritten since, else a new
  /// stage.
  void share_quants(Stage& s, const hadal_op& op, const hadal_tensor* t, uint64_t bytes) {
    const hadal_tensor& x = t[HADAL_MATMUL_X];
    const int64_t batch = x.rank == 3 ? x.extents[1] : 1, k = x.extents[x.rank - 1];
    plan_.quant_bytes_ = std::max(plan_.quant_bytes_,
                                  static_cast<uint64_t>(quant_bytes(
                                      kFewRows * batch * std::max<int64_t>(1, x.extents[0]), k)));
    if (plan_.eager_ || quants_ < 0 || !same_tensor(x, quantised_x_)) {
      if (plan_.eager_) {
        plan_.workspace_bytes_ = std::max(plan_.workspace_bytes_, bytes);
      } else if (bytes > quant_buffer_bytes_) {
        quant_buffer_ = allocate(bytes);
        quant_buffer_bytes_ = bytes;
      }
      quants_ = next_quants_++;
      quantised_x_ = x;
      Stage q{.kind = StageKind::kQuantise,
              .op = s.op,
              .quants = quants_,
              .buffer = quant_buffer_,
              .buffer_bytes = bytes};
      push(q, op, t);
    }
    s.quants = quants_;
    s.buffer = quant_buffer_;
    s.buffer_bytes = bytes;
  }

  struct Table {
    const hadal_tensor* position;
    hadal_weight* inv_freq;
    hadal_rope_attr attr;
    uint64_t at, bytes;
  };

  void share_table(Stage& s, const hadal_op& op, const hadal_tensor* t) {
    const hadal_rope_attr& a = op.attr.rope;
    const hadal_tensor& position = tape_.tensors[op.operands[HADAL_ROPE_POSITION]];
    s.shares_table = true;
    for (const Table& table : tables_)
      if (same_tensor(*table.position, position) &&
          table.inv_freq == t[HADAL_ROPE_INV_FREQ].weight && table.attr.dims == a.dims &&
          table.attr.inverse == a.inverse && table.attr.ratio == a.ratio &&
          table.attr.amplitude == a.amplitude) {
        s.buffer = table.at;
        s.buffer_bytes = table.bytes;
        return;
      }
    const uint64_t bytes =
        static_cast<uint64_t>(position.extents[0] * tape_.limits[position.row_dim]) * a.dims *
        sizeof(float);
    s.buffer = allocate(bytes);
    s.buffer_bytes = bytes;
    tables_.push_back({&position, t[HADAL_ROPE_INV_FREQ].weight, a, s.buffer, bytes});
    Stage table = s;
    table.kind = StageKind::kRopeTable;
    push(table, op, t);
  }

  [[nodiscard]] bool writes_inputs() const {
    for (const hadal_op& op : plan_.ops_)
      for (uint32_t i = 0; i < host_chip::operand_count(op.id); ++i) {
        const hadal_role role = host_chip::operand_role(op.id, i);
        const bool writes =
            role == HADAL_ROLE_OUT || role == HADAL_ROLE_INOUT || role == HADAL_ROLE_OPT_INOUT;
        if (writes && op.operands[i] >= 0 &&
            tape_.tensors[op.operands[i]].space == HADAL_SPACE_INPUT)
          return true;
      }
    return false;
  }

  /// What the stage touches in steps of few rows (mode 0) or others (mode 1).
  std::vector<Access> accesses(const Stage& s, const hadal_op& op, const hadal_tensor* t,
                               int mode) const {
    std::vector<Access> list;
    const auto buffer = [&](bool write) {
      if (s.buffer_bytes != 0)
        list.push_back({kWorkspace, 0, s.buffer, s.buffer + s.buffer_bytes, 0, 0, write});
    };
    if (s.kind == StageKind::kQuantise) {
      if (mode == 0) return list;  // left out then
      list.push_back(access_of(t[HADAL_MATMUL_X], tape_.limits, false));
      buffer(true);
      return list;
    }
    if (s.kind == StageKind::kRopeTable) {
      list.push_back(access_of(t[HADAL_ROPE_POSITION], tape_.limits, false));
      buffer(true);
      return list;
    }
    for (uint32_t i = 0; i < host_chip::operand_count(op.id); ++i) {
      const hadal_role role = host_chip::operand_role(op.id, i);
      if (t[i].space == HADAL_SPACE_NONE || t[i].space == HADAL_SPACE_WEIGHT) continue;
      list.push_back(access_of(
          t[i], tape_.limits,
          role == HADAL_ROLE_OUT || role == HADAL_ROLE_INOUT || role == HADAL_ROLE_OPT_INOUT));
    }
    if (s.quants >= 0 && mode == 1) buffer(false);
    if (s.kind == StageKind::kRope && s.shares_table) buffer(false);
    for (const auto& [first, second] : kTwoParts)
      if (s.kind == first || s.kind == second) buffer(s.kind == first);
    return list;
  }

  /// Appends a stage and finds whether a barrier must come before it.
  void push(Stage s, const hadal_op& op, const hadal_tensor* t) {
    for (int mode = 0; mode < 2; ++mode) {
      const std::vector<Access> list = accesses(s, op, t, mode);
      std::vector<Access>& open = open_[mode];
      bool meets = false;
      for (const Access& a : list)
        for (const Access& b : open) meets = meets || ((a.write || b.write) && overlap(a, b));
      s.barrier[mode] = meets;
      // The barrier before a second part is left out where nothing is split: it closes nothing.
      if (meets && !is_second_part(s.kind)) open.clear();
      open.insert(open.end(), list.begin(), list.end());
    }
    plan_.stages_.push_back(s);
  }

  void note_writes(const hadal_op& op, const hadal_tensor* t) {
    if (quants_ < 0) return;
    const Access x = access_of(quantised_x_, tape_.limits, false);
    for (uint32_t i = 0; i < host_chip::operand_count(op.id); ++i) {
      const hadal_role role = host_chip::operand_role(op.id, i);
      const bool writes =
          role == HADAL_ROLE_OUT || role == HADAL_ROLE_INOUT || role == HADAL_ROLE_OPT_INOUT;
      if (writes && t[i].space != HADAL_SPACE_NONE &&
          overlap(x, access_of(t[i], tape_.limits, true)))
        quants_ = -1;
    }
  }

  /// Indices that the host wrote are checked before the step, once for operators that share them;
  /// others at their stage.
  void note_check(uint32_t index, const hadal_op& op, const hadal_tensor* t) {
    bool host = true;
    for (uint32_t i = 0; i < host_chip::operand_count(op.id); ++i) {
      const uint32_t type = t[i].dtype;
      if (t[i].space != HADAL_SPACE_NONE && t[i].space != HADAL_SPACE_WEIGHT && type == HADAL_I32 &&
          host_chip::operand_role(op.id, i) != HADAL_ROLE_OUT)
        host = host && t[i].space == HADAL_SPACE_INPUT;
    }
    if (!host || (writes_inputs() && !plan_.eager_)) {
      for (Stage& s : plan_.stages_)
        if (s.op == index) s.validate = true;
      return;
    }
    for (const uint32_t other : plan_.checks_)
      if (same_check(plan_.ops_[other], op)) return;
    plan_.checks_.push_back(index);
  }

  [[nodiscard]] bool same_check(const hadal_op& a, const hadal_op& b) const {
    // Bytes between the members may differ: then a check runs twice.
    // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison)
    if (a.id != b.id || std::memcmp(&a.attr, &b.attr, sizeof a.attr) != 0) return false;
    for (uint32_t i = 0; i < host_chip::operand_count(a.id); ++i) {
      if ((a.operands[i] < 0) != (b.operands[i] < 0)) return false;
      if (a.operands[i] < 0) continue;
      const hadal_tensor &x = tape_.tensors[a.operands[i]], &y = tape_.tensors[b.operands[i]];
      // Numbers of a table that is gathered from are indices as well: the router's HASH.
      const bool table = a.id == HADAL_OP_ROUTER && x.space == HADAL_SPACE_WEIGHT;
      if ((x.dtype == HADAL_I32 || table) && !same_tensor(x, y)) return false;
      if (std::memcmp(x.extents, y.extents, sizeof x.extents) != 0)
        return false;  // blocks of planes, sizes of tables
    }
    return true;
  }

  Plan& plan_;
  const hadal_tape& tape_;
  std::vector<Access> open_[2];  ///< since the last barrier
  int32_t quants_ = -1, next_quants_ = 0;
  hadal_tensor quantised_x_{};
  uint64_t quant_buffer_ = 0, quant_buffer_bytes_ = 0;
  uint64_t parts_at_ = 0, parts_bytes_ = 0;
  std::vector<Table> tables_;
};

hadal_status Plan::make(Device& device, const hadal_tape& tape, uint32_t first, uint32_t count,
                        bool eager, std::unique_ptr<Plan>* out, hadal_error* error) {
  if (first > tape.op_count || count > tape.op_count - first)
    return report(error, HADAL_INVALID,
                  "operators " + std::to_string(first) + " + " + std::to_string(count) +
                      " of a tape of " + std::to_string(tape.op_count));
  std::unique_ptr<Plan> plan(new Plan(device));
  plan->eager_ = eager;
  plan->tensors_.assign(tape.tensors, tape.tensors + tape.tensor_count);
  plan->ops_.assign(tape.ops + first, tape.ops + first + count);
  plan->tape_ = tape;
  plan->tape_.tensors = plan->tensors_.data();
  plan->tape_.ops = plan->ops_.data();
  plan->tape_.op_count = count;
  plan->tape_.limits[HADAL_DIM_CONST] = 1;
  PlanBuilder builder(*plan, plan->tape_);
  for (uint32_t i = 0; i < count; ++i)
    if (const hadal_status s = builder.add(i, error); s != HADAL_OK) return s;
  if (!eager && !plan->workspace_.allocate(plan->workspace_bytes_))
    return report(
        error, HADAL_OUT_OF_MEMORY,
        "no " + std::to_string(plan->workspace_bytes_) + " bytes of memory left for the program");
  plan->counters_ = std::make_unique<std::atomic<int32_t>[]>(plan->stages_.size() * 16 + 16);
  *out = std::move(plan);
  return HADAL_OK;
}

hadal_status Plan::check_step(const hadal_step& step, hadal_error* error) const {
  for (int dim = HADAL_DIM_T; dim < HADAL_DIM_COUNT; ++dim)
    if (step.rows[dim] < 0 || step.rows[dim] > tape_.limits[dim])
      return report(error, HADAL_INVALID,
                    "the step brings " + std::to_string(step.rows[dim]) + " rows of kind " +
                        std::to_string(dim) + ", the tape's limit is " +
                        std::to_string(tape_.limits[dim]));
  if (step.plane_count < tape_.plane_count)
    return report(error, HADAL_INVALID, "the step brings fewer planes than the tape uses");
  // Every operand must lie inside its memory.
  for (const hadal_op& op : ops_)
    for (uint32_t i = 0; i < host_chip::operand_count(op.id); ++i) {
      if (op.operands[i] < 0) continue;
      const hadal_tensor& t = tensors_[static_cast<size_t>(op.operands[i])];
      if (t.space == HADAL_SPACE_WEIGHT || t.space == HADAL_SPACE_NONE) continue;
      hadal_memory* base = host_chip::memory_of(t, step);
      int64_t span = dtype_info(static_cast<DType>(t.dtype))->block_bytes;
      for (uint32_t d = 0; d < t.rank; ++d) {
        // A plane's memory may hold fewer blocks than its limit: the block tables are checked
        // instead.
        const int64_t n = d != 0                         ? t.extents[d]
                          : t.space == HADAL_SPACE_PLANE ? 1
                                                         : t.extents[0] * step.rows[t.row_dim];
        span = n == 0 ? INT64_MIN / 2 : span + (n - 1) * t.strides[d];
        if (n == 0) break;
      }
      if (span <= 0) continue;
      const host_chip::Memory* m = base ? host_chip::memory(base) : nullptr;
      if (!m || t.offset > m->bytes || static_cast<uint64_t>(span) > m->bytes - t.offset)
        return report(error, HADAL_INVALID,
                      std::string(host_chip::op_name(op.id)) + ": " +
                          host_chip::operand_name(op.id, i) +
                          " does not lie inside the step's memory");
    }
  if (eager_ && workspace_bytes_ > 0) {
    const host_chip::Memory* m = step.workspace ? host_chip::memory(step.workspace) : nullptr;
    if (!m || m->bytes < workspace_bytes_)
      return report(
          error, HADAL_INVALID,
          "the operators need a workspace of " + std::to_string(workspace_bytes_) + " bytes");
  }
  for (const uint32_t i : checks_)
    if (const std::string text = check_indices(tape_, ops_[i], step); !text.empty())
      return report(error, HADAL_INVALID, text);
  return HADAL_OK;
}

void Plan::work(Run& run, Worker& worker, std::atomic<int32_t>* invalid) {
  const int mode = run.few ? 0 : 1;
  for (size_t i = 0; i < stages_.size(); ++i) {
    const Stage& s = stages_[i];
    const hadal_op& op = ops_[s.op];
    if (s.kind == StageKind::kQuantise && run.few) continue;
    if (s.kind == StageKind::kAttentionMerge && !attention_splits(run, op, s)) continue;
    if (s.kind == StageKind::kIndexSelect && !index_splits(run, op, s)) continue;
    if (s.barrier[mode] &&
        device_.pool->barrier(worker.index, worker.index == 0 && host_chip::stop_asked(run.step))) {
      if (worker.index == 0) invalid[1].store(1, std::memory_order_relaxed);
      return;
    }
    // All workers read the same indices and find the same.
    if (s.validate && !check_indices(tape_, op, run.step).empty()) {
      invalid[0].store(static_cast<int32_t>(s.op) + 1, std::memory_order_relaxed);
      return;
    }
    switch (s.kind) {
      case StageKind::kQuantise:
        run_quantise(run, op, s, i);
        break;
      case StageKind::kMatmul:
        run_matmul(run, op, s, i, worker);
        break;
      case StageKind::kGatedMatmul:
        run_gated_matmul(run, op, s, i, worker);
        break;
      case StageKind::kEmbed:
        run_embed(run, op, i);
        break;
      case StageKind::kNorm:
        run_norm(run, op, i);
        break;
      case StageKind::kRopeTable:
        run_rope_table(run, op, s, i);
        break;
      case StageKind::kRope:
        run_rope(run, op, s, i, worker);
        break;
      case StageKind::kSwiglu:
        run_swiglu(run, op, i);
        break;
      case StageKind::kAdd:
        run_add(run, op, i);
        break;
      case StageKind::kKvWrite:
        run_kv_write(run, op, i);
        break;
      case StageKind::kAttention:
        run_attention(run, op, s, i, worker);
        break;
      case StageKind::kAttentionMerge:
        run_attention_merge(run, op, s, i, worker);
        break;
      case StageKind::kGatherRows:
        run_gather_rows(run, op, i);
        break;
      case StageKind::kCopyBlocks:
        run_copy_blocks(run, op, i);
        break;
      case StageKind::kConvert:
        run_convert(run, op, i, worker);
        break;
      case StageKind::kSample:
        run_sample(run, op, i, worker);
        break;
      case StageKind::kRouter:
        run_router(run, op, i, worker);
        break;
      case StageKind::kMoeSort:
        run_moe_sort(run, op, i);
        break;
      case StageKind::kGroupedMatmul:
        run_grouped_matmul(run, op, i, worker);
        break;
      case StageKind::kMoeCombine:
        run_moe_combine(run, op, i);
        break;
      case StageKind::kIndex:
        run_index(run, op, s, i, worker);
        break;
      case StageKind::kCompress:
        run_compress(run, op, i);
        break;
      case StageKind::kHcPre:
        run_hc_pre(run, op, i);
        break;
      case StageKind::kHcPost:
        run_hc_post(run, op, i);
        break;
      case StageKind::kEngramGate:
        run_engram_gate(run, op, i);
        break;
      case StageKind::kIndexSelect:
        run_index_select(run, op, s, i);
        break;
    }
  }
}

hadal_status Plan::run(const hadal_step& step, hadal_error* error) {
  if (host_chip::stop_asked(step))
    return report(error, HADAL_STOPPED, "stopped before the step began");
  const std::lock_guard guard(device_.pool->lock());
  if (const hadal_status s = check_step(step, error); s != HADAL_OK) return s;
  if (!device_.reserve(temp_bytes_, quant_bytes_))
    return report(error, HADAL_OUT_OF_MEMORY, "no memory left for the workers");
  for (size_t i = 0; i < stages_.size(); ++i) counters_[i * 16].store(0, std::memory_order_relaxed);
  for (Worker& w : device_.workers) w.quantised = -1;
  uint8_t* workspace =
      eager_ ? (step.workspace ? reinterpret_cast<uint8_t*>(host_chip::memory(step.workspace)->data)
                               : nullptr)
             : workspace_.data();
  Run run{tape_, step, device_.kernels, workspace, counters_.get(), device_.pool->size(), true};
  for (int dim = HADAL_DIM_T; dim < HADAL_DIM_COUNT; ++dim)
    run.few = run.few && step.rows[dim] <= kFewRows;
  std::atomic<int32_t> invalid[2] = {0, 0};  // op + 1 of bad indices; stopped
  auto body = [&](int worker) { work(run, device_.workers[static_cast<size_t>(worker)], invalid); };
  device_.pool->run(body);
  if (invalid[1].load() != 0) return report(error, HADAL_STOPPED, "stopped");
  if (const int32_t bad = invalid[0].load(); bad != 0)
    return report(error, HADAL_INVALID,
                  check_indices(tape_, ops_[static_cast<size_t>(bad - 1)], step));
  return HADAL_OK;
}

}  // namespace hadal::cpu
