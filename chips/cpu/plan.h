// A plan: some operators of a tape, made ready to run in one parallel region.
//
// Built by program.prepare for a whole tape and by op_run for a few operators; both run the same
// stages, so they give the same bits. A plan decides once: which stages there are (quantise,
// multiply, tables of RoPE, parts of attention, …), which of them need a barrier before them, which
// matmuls share quantised activations, which RoPEs share a table, and the memory. A stage hands out
// its work by a counter; nothing in the results depends on who does what.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/host_chip.h"
#include "device.h"

namespace hadal::cpu {

/// Steps with at most so many rows of every kind quantise activations in each worker (no barrier)
/// instead of together.
constexpr int64_t kFewRows = 4;
/// Attention of at most so many rows may be split over tiles.
constexpr int64_t kSplitRows = 4;
/// A matmul that decodes its weights on the way does it for so many rows at once, so many values at
/// a time.
constexpr int64_t kDecodeRows = 128;
constexpr int64_t kDecodeValues = 512;

enum class StageKind : uint8_t {
  kQuantise,
  kMatmul,
  kGatedMatmul,
  kEmbed,
  kNorm,
  kRopeTable,
  kRope,
  kSwiglu,
  kAdd,
  kKvWrite,
  kAttention,
  kAttentionMerge,
  kGatherRows,
  kCopyBlocks,
  kConvert,
  kSample,
  kRouter,
  kMoeSort,
  kGroupedMatmul,
  kMoeCombine,
  kIndex,
  kIndexSelect,
  kCompress,
  kHcPre,
  kHcPost,
  kEngramGate,
};

struct Stage {
  StageKind kind;
  uint32_t op = 0;                   ///< index into the plan's ops
  bool barrier[2] = {false, false};  ///< before it: in steps of few rows, in other steps
  int32_t quants = -1;               ///< group of quantised activations
  uint64_t buffer =
      0;  ///< offset in the workspace: quantised activations, RoPE table, attention partials
  uint64_t buffer_bytes = 0;
  bool shares_table = false;  ///< RoPE: `buffer` holds cos and sin
  bool validate = false;      ///< indices are made by the tape itself: check them at the stage
};

/// State of one run, shared by the workers.
struct Run {
  const hadal_tape& tape;
  const hadal_step& step;
  const KernelTable& kernels;
  uint8_t* workspace;
  std::atomic<int32_t>* counters;  ///< one a stage, 64 bytes apart
  int workers;
  bool few;

  [[nodiscard]] host_chip::View view(const hadal_op& op, uint32_t operand) const {
    return host_chip::view(tape, op.operands[operand], step);
  }
  /// body(i) for i in [0, tasks), `i` handed out among the workers.
  template <typename Body>
  void share(size_t stage, int64_t tasks, Body&& body) const {
    if (workers == 1) {
      for (int64_t i = 0; i < tasks; ++i) body(i);
      return;
    }
    std::atomic<int32_t>& next = counters[stage * 16];
    for (int64_t i = next.fetch_add(1, std::memory_order_relaxed); i < tasks;
         i = next.fetch_add(1, std::memory_order_relaxed))
      body(i);
  }
  /// The same for runs of rows: body(from, to). `grain`: fewest rows of a task.
  template <typename Body>
  void share_rows(size_t stage, int64_t rows, int64_t grain, Body&& body) const {
    grain = std::max(grain, rows / (int64_t{8} * workers));
    share(stage, (rows + grain - 1) / grain,
          [&](int64_t i) { body(i * grain, std::min(rows, (i + 1) * grain)); });
  }
};

class Plan {
 public:
  /// Ops [first, first + count) of the tape. `eager`: a barrier before every operator, nothing
  /// shared among operators, workspace from the step. The tape's weights must be bound.
  static hadal_status make(Device& device, const hadal_tape& tape, uint32_t first, uint32_t count,
                           bool eager, std::unique_ptr<Plan>* out, hadal_error* error);

  hadal_status run(const hadal_step& step, hadal_error* error);

 private:
  explicit Plan(Device& device) : device_(device) {}
  friend class PlanBuilder;

  hadal_status check_step(const hadal_step& step, hadal_error* error) const;
  void work(Run& run, Worker& worker, std::atomic<int32_t>* invalid);

  Device& device_;
  bool eager_ = false;
  std::vector<hadal_tensor> tensors_;
  std::vector<hadal_op> ops_;
  hadal_tape tape_{};
  std::vector<Stage> stages_;
  std::vector<uint32_t>
      checks_;  ///< ops whose indices are checked before a step, each kind of check once
  uint64_t workspace_bytes_ = 0;
  Mapping workspace_;
  uint64_t temp_bytes_ = 0, quant_bytes_ = 0;
  std::unique_ptr<std::atomic<int32_t>[]> counters_;
};

/// Bytes of quantised activations: rows of `k` values.
constexpr int64_t quant_bytes(int64_t rows, int64_t k) { return rows * (k / kBlock) * kActBytes; }

/// Memory that attention over tiles needs for its parts (0: it is never split).
uint64_t attention_parts_bytes(const hadal_tensor& q, const hadal_tensor& k, const hadal_tensor& v,
                               const hadal_tensor& table, const hadal_attention_attr& attr,
                               const int64_t* limits);
/// Worker memory of an operator.
uint64_t temp_bytes_of(const hadal_op& op, const hadal_tensor* tensors);
/// Does attention of this step split over tiles? All workers find the same.
bool attention_splits(const Run& run, const hadal_op& op, const Stage& stage);
/// Numbers of a plane (F32, F16, BF16) as floats.
void load_numbers(const KernelTable& kernels, DType dtype, const std::byte* from, int64_t n,
                  float* to);
/// Memory for what choosing needs of few rows, and whether a step uses it.
uint64_t index_kept_bytes(const hadal_op& op, const hadal_tensor* tensors, int64_t rows);
bool index_splits(const Run& run, const hadal_op& op, const Stage& stage);
/// Indices within their ranges; an empty text if so.
std::string check_indices(const hadal_tape& tape, const hadal_op& op, const hadal_step& step);

// The stages. Each is called by every worker.
void run_quantise(const Run& run, const hadal_op& op, const Stage& stage, size_t index);
void run_matmul(const Run& run, const hadal_op& op, const Stage& stage, size_t index,
                Worker& worker);
void run_gated_matmul(const Run& run, const hadal_op& op, const Stage& stage, size_t index,
                      Worker& worker);
void run_embed(const Run& run, const hadal_op& op, size_t index);
void run_norm(const Run& run, const hadal_op& op, size_t index);
void run_rope_table(const Run& run, const hadal_op& op, const Stage& stage, size_t index);
void run_rope(const Run& run, const hadal_op& op, const Stage& stage, size_t index, Worker& worker);
void run_swiglu(const Run& run, const hadal_op& op, size_t index);
void run_add(const Run& run, const hadal_op& op, size_t index);
void run_kv_write(const Run& run, const hadal_op& op, size_t index);
void run_attention(const Run& run, const hadal_op& op, const Stage& stage, size_t index,
                   Worker& worker);
void run_attention_merge(const Run& run, const hadal_op& op, const Stage& stage, size_t index,
                         Worker& worker);
void run_gather_rows(const Run& run, const hadal_op& op, size_t index);
void run_copy_blocks(const Run& run, const hadal_op& op, size_t index);
void run_convert(const Run& run, const hadal_op& op, size_t index, Worker& worker);
void run_router(const Run& run, const hadal_op& op, size_t index, Worker& worker);
void run_moe_sort(const Run& run, const hadal_op& op, size_t index);
void run_grouped_matmul(const Run& run, const hadal_op& op, size_t index, Worker& worker);
void run_moe_combine(const Run& run, const hadal_op& op, size_t index);
void run_index(const Run& run, const hadal_op& op, const Stage& stage, size_t index,
               Worker& worker);
void run_compress(const Run& run, const hadal_op& op, size_t index);
void run_hc_pre(const Run& run, const hadal_op& op, size_t index);
void run_hc_post(const Run& run, const hadal_op& op, size_t index);
void run_engram_gate(const Run& run, const hadal_op& op, size_t index);
void run_index_select(const Run& run, const hadal_op& op, const Stage& stage, size_t index);
void run_sample(const Run& run, const hadal_op& op, size_t index, Worker& worker);

}  // namespace hadal::cpu
