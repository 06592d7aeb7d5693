// index_topk and index_blocks: keys of scores into the workspace, of blocks their largest, then the
// choice. Kernels: kernels/indexer.cl.
//
// The workspace holds the keys of so many rows as fit into kMostWorkspace, and the rows of a step
// go through it in runs of as many: how many they are does not change a row's bits.
#include <algorithm>

#include "ops/operators.h"

namespace hadal::opencl {
namespace {

static_assert(uint32_t{HADAL_INDEX_TOPK_Q} == uint32_t{HADAL_INDEX_BLOCKS_Q} &&
              uint32_t{HADAL_INDEX_TOPK_LIST} == uint32_t{HADAL_INDEX_BLOCKS_LIST});

constexpr int64_t kMostWorkspace = int64_t{64} << 20;

/// What a row may search, by the capacity of its tables.
struct Search {
  int64_t most = 0;     ///< entries
  int64_t numbers = 0;  ///< entries, or those of all candidates
  int64_t blocks = 0;   ///< index_blocks: that are chosen from
  int64_t size = 1;
  int64_t rows = 1;  ///< of a run

  [[nodiscard]] int64_t keys() const { return numbers + blocks; }
};

/// `rows`: the most of a step.
Search search_of(const hadal_op& op, int64_t table_blocks, int64_t slots, int64_t candidates,
                 int64_t rows) {
  Search s;
  s.most = table_blocks * slots;
  s.size = std::max<int64_t>(1, op.attr.index.block_size);
  s.numbers = candidates < 0 ? s.most : candidates * s.size;
  if (op.id == HADAL_OP_INDEX_BLOCKS) s.blocks = (s.most + s.size - 1) / s.size;
  s.rows = std::clamp<int64_t>(kMostWorkspace / 4 / std::max<int64_t>(1, s.keys()), 1,
                               std::max<int64_t>(1, rows));
  return s;
}

bool has_candidates(const hadal_op& op, const hadal_tensor* t) {
  return op.id == HADAL_OP_INDEX_TOPK && t[HADAL_INDEX_TOPK_CANDIDATES].space != HADAL_SPACE_NONE;
}

uint64_t workspace(const hadal_op& op, const hadal_tensor* t, const int64_t* limits) {
  const hadal_tensor& q = t[HADAL_INDEX_TOPK_Q];
  const Search s = search_of(op, t[HADAL_INDEX_TOPK_BLOCK_TABLE].extents[1],
                             t[HADAL_INDEX_TOPK_PLANE].extents[1],
                             has_candidates(op, t) ? t[HADAL_INDEX_TOPK_CANDIDATES].extents[1] : -1,
                             q.extents[0] * limits[q.row_dim]);
  return static_cast<uint64_t>(s.keys() * s.rows * 4);
}

std::string refuse(const hadal_op& op, const hadal_tensor* t) {
  const Search s = search_of(
      op, t[HADAL_INDEX_TOPK_BLOCK_TABLE].extents[1], t[HADAL_INDEX_TOPK_PLANE].extents[1],
      has_candidates(op, t) ? t[HADAL_INDEX_TOPK_CANDIDATES].extents[1] : -1, 1);
  return s.most < int64_t{1} << 30 && s.numbers < int64_t{1} << 30
             ? ""
             : "searches fewer than 2^30 entries a row";
}

/// One run of the rows of a call.
class Run {
 public:
  Run(Call& call, const Search& search, int64_t candidates, int64_t first, int64_t rows)
      : call_(call), s_(search), candidates_(candidates), first_(first), rows_(rows) {}

  hadal_status score() {
    Launch launch(call_, "indexer", "index_scores");
    launch.cube(HADAL_INDEX_TOPK_Q).matrix(HADAL_INDEX_TOPK_WEIGHT);
    add_rows(launch);
    launch.plane(HADAL_INDEX_TOPK_PLANE)
        .matrix(HADAL_INDEX_TOPK_BLOCK_TABLE)
        .number(s_.most)
        .vector(HADAL_INDEX_TOPK_FIRST);
    add_candidates(launch);
    return launch.workspace_matrix(0, s_.numbers)
        .number(s_.numbers)
        .number(first_)
        .number(call_[HADAL_INDEX_TOPK_Q].extents[1])
        .number(call_[HADAL_INDEX_TOPK_Q].extents[2])
        .number(call_.op->attr.index.ratio)
        .run_items(s_.numbers, rows_);
  }

  hadal_status find_blocks() {
    Launch launch(call_, "indexer", "index_block_keys");
    launch.workspace_matrix(0, s_.numbers).workspace_matrix(s_.rows * s_.numbers, s_.blocks);
    add_rows(launch);
    return launch.vector(HADAL_INDEX_TOPK_FIRST)
        .number(s_.most)
        .number(s_.blocks)
        .number(s_.size)
        .number(first_)
        .number(call_.op->attr.index.ratio)
        .run_items(s_.blocks, rows_);
  }

  hadal_status select() {
    const bool blocks = s_.blocks > 0;
    Launch launch(call_, "indexer", "index_select");
    launch.workspace_matrix(blocks ? s_.rows * s_.numbers : 0, blocks ? s_.blocks : s_.numbers)
        .number(blocks ? s_.blocks : s_.numbers)
        .number(blocks ? s_.size : 1);
    add_rows(launch);
    launch.vector(HADAL_INDEX_TOPK_FIRST).number(s_.most);
    add_candidates(launch);
    return launch.matrix(HADAL_INDEX_TOPK_LIST)
        .number(call_[HADAL_INDEX_TOPK_LIST].extents[1])
        .number(first_)
        .number(call_.op->attr.index.ratio)
        .run_groups(1, rows_);
  }

 private:
  void add_rows(Launch& launch) const {
    launch.vector(HADAL_INDEX_TOPK_POSITION)
        .vector(HADAL_INDEX_TOPK_ROW_SEQ)
        .number(call_[HADAL_INDEX_TOPK_BLOCK_TABLE].extents[0]);
  }
  void add_candidates(Launch& launch) const {
    if (candidates_ < 0)
      launch.no_matrix();
    else
      launch.matrix(HADAL_INDEX_TOPK_CANDIDATES);
    launch.number(candidates_).number(s_.size);
  }

  Call& call_;
  const Search& s_;
  int64_t candidates_, first_, rows_;
};

hadal_status run(Call& call) {
  const bool listed =
      call.op->id == HADAL_OP_INDEX_TOPK && call[HADAL_INDEX_TOPK_CANDIDATES].present();
  const int64_t candidates = listed ? call[HADAL_INDEX_TOPK_CANDIDATES].extents[1] : -1;
  const int64_t rows = call[HADAL_INDEX_TOPK_Q].extents[0];
  const Search s = search_of(*call.op, call[HADAL_INDEX_TOPK_BLOCK_TABLE].extents[1],
                             call[HADAL_INDEX_TOPK_PLANE].extents[1], candidates, rows);
  for (int64_t first = 0; first < rows; first += s.rows) {
    Run run(call, s, candidates, first, std::min(s.rows, rows - first));
    if (const hadal_status status = run.score(); status != HADAL_OK) return status;
    if (s.blocks > 0)
      if (const hadal_status status = run.find_blocks(); status != HADAL_OK) return status;
    if (const hadal_status status = run.select(); status != HADAL_OK) return status;
  }
  return HADAL_OK;
}

}  // namespace

const Operator kIndexTopk = {HADAL_OP_INDEX_TOPK, refuse, workspace, run};
const Operator kIndexBlocks = {HADAL_OP_INDEX_BLOCKS, refuse, workspace, run};

}  // namespace hadal::opencl
