// What chooses the entries of latent_attention: index_topk, and index_blocks, which chooses where
// index_topk searches. Both have the same operands up to LIST.
#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "ref.h"

namespace hadal::ref {
namespace {

static_assert(uint32_t{HADAL_INDEX_TOPK_Q} == uint32_t{HADAL_INDEX_BLOCKS_Q} &&
              uint32_t{HADAL_INDEX_TOPK_LIST} == uint32_t{HADAL_INDEX_BLOCKS_LIST});

/// One row: its sequence, and the entries [begin, end) that it sees.
struct Row {
  int64_t token = 0;
  int32_t sequence = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

int64_t ratio_of(const Call& call) { return call.op->attr.index.ratio; }

/// Entries that a block table can name.
int64_t most_entries(const Call& call) {
  return call[HADAL_INDEX_TOPK_BLOCK_TABLE].extents[1] * call[HADAL_INDEX_TOPK_PLANE].extents[1];
}

hadal_status read_row(const Call& call, int64_t t, Row& row) {
  const auto& table = call[HADAL_INDEX_TOPK_BLOCK_TABLE];
  const int64_t ratio = ratio_of(call), most = most_entries(call) * ratio;
  const int64_t position = *call[HADAL_INDEX_TOPK_POSITION].row<int32_t>(t);
  row.token = t;
  row.sequence = *call[HADAL_INDEX_TOPK_ROW_SEQ].row<int32_t>(t);
  if (row.sequence < 0 || row.sequence >= table.extents[0])
    return call.outside(HADAL_INDEX_TOPK_ROW_SEQ, t, row.sequence, table.extents[0]);
  if (position < 0 || position >= most)
    return call.outside(HADAL_INDEX_TOPK_POSITION, t, position, most);
  const int64_t first = std::max(0, *call[HADAL_INDEX_TOPK_FIRST].row<int32_t>(row.sequence));
  row.begin = (first + ratio - 1) / ratio;
  row.end = (position + 1) / ratio;
  return HADAL_OK;
}

// score = sum_h weight[t, h] max(0, q[t, h] . key[e])
hadal_status score_entry(const Call& call, const Row& row, int64_t e, double& score) {
  const auto& q = call[HADAL_INDEX_TOPK_Q];
  const auto& plane = call[HADAL_INDEX_TOPK_PLANE];
  const int64_t d = q.extents[2], slots = plane.extents[1];
  const int32_t block = call[HADAL_INDEX_TOPK_BLOCK_TABLE].row<int32_t>(row.sequence)[e / slots];
  if (block < 0 || block >= plane.extents[0])
    return call.outside(HADAL_INDEX_TOPK_BLOCK_TABLE, e / slots, block, plane.extents[0]);
  std::vector<double> key(static_cast<size_t>(d)), query(static_cast<size_t>(d));
  for (int64_t c = 0; c < d; ++c)
    key[static_cast<size_t>(c)] =
        static_cast<double>(load(plane.row<std::byte>(block, e % slots), plane.dtype, c));
  score = 0;
  for (int64_t h = 0; h < q.extents[1]; ++h) {
    std::copy_n(q.row<float>(row.token, h), d, query.data());
    score += static_cast<double>(call[HADAL_INDEX_TOPK_WEIGHT].row<float>(row.token)[h]) *
             std::max(0.0, dot(query.data(), key.data(), d));
  }
  return HADAL_OK;
}

/// An entry or a block, behind minus its score: sorted, the best come first and ties go upwards.
using Scored = std::vector<std::pair<double, int64_t>>;

void write_best(const Call& call, const Row& row, Scored& scored) {
  const auto& list = call[HADAL_INDEX_TOPK_LIST];
  std::sort(scored.begin(), scored.end());
  const int64_t count = std::min(list.extents[1], static_cast<int64_t>(scored.size()));
  int32_t* out = list.row<int32_t>(row.token);
  std::fill(out, out + list.extents[1], -1);
  for (int64_t i = 0; i < count; ++i)
    out[i] = static_cast<int32_t>(scored[static_cast<size_t>(i)].second);
  std::sort(out, out + count);
}

/// The entries that index_topk searches: all that are seen, or those of them in candidate blocks.
hadal_status searched_entries(const Call& call, const Row& row, std::vector<int64_t>& entries) {
  const auto& candidates = call[HADAL_INDEX_TOPK_CANDIDATES];
  if (!candidates.present()) {
    for (int64_t e = row.begin; e < row.end; ++e) entries.push_back(e);
    return HADAL_OK;
  }
  const int64_t size = call.op->attr.index.block_size,
                blocks = (most_entries(call) + size - 1) / size;
  int64_t last = -1;
  for (int64_t i = 0; i < candidates.extents[1]; ++i) {
    const int64_t b = candidates.row<int32_t>(row.token)[i];
    if (b < 0) break;
    if (b <= last || b >= blocks) return call.outside(HADAL_INDEX_TOPK_CANDIDATES, i, b, blocks);
    last = b;
    for (int64_t e = std::max(row.begin, b * size); e < std::min(row.end, (b + 1) * size); ++e)
      entries.push_back(e);
  }
  return HADAL_OK;
}

}  // namespace

// LIST[t] = the k searched entries of the largest score
hadal_status index_topk(const Call& call) {
  for (int64_t t = 0; t < call[HADAL_INDEX_TOPK_Q].extents[0]; ++t) {
    Row row;
    std::vector<int64_t> entries;
    if (const hadal_status status = read_row(call, t, row); status != HADAL_OK) return status;
    if (const hadal_status status = searched_entries(call, row, entries); status != HADAL_OK)
      return status;
    Scored scored;
    for (const int64_t e : entries) {
      double score = 0;
      if (const hadal_status status = score_entry(call, row, e, score); status != HADAL_OK)
        return status;
      scored.emplace_back(-score, e);
    }
    write_best(call, row, scored);
  }
  return HADAL_OK;
}

// LIST[t] = the block of the last entry seen, and the k - 1 others of the largest entries
hadal_status index_blocks(const Call& call) {
  const int64_t size = call.op->attr.index.block_size;
  for (int64_t t = 0; t < call[HADAL_INDEX_BLOCKS_Q].extents[0]; ++t) {
    Row row;
    if (const hadal_status status = read_row(call, t, row); status != HADAL_OK) return status;
    Scored scored;
    for (int64_t e = row.begin; e < row.end; ++e) {
      double score = 0;
      if (const hadal_status status = score_entry(call, row, e, score); status != HADAL_OK)
        return status;
      if (scored.empty() || scored.back().second != e / size)
        scored.emplace_back(-score, e / size);
      else
        scored.back().first = std::min(scored.back().first, -score);
    }
    if (!scored.empty()) scored.back().first = -std::numeric_limits<double>::infinity();
    write_best(call, row, scored);
  }
  return HADAL_OK;
}

}  // namespace hadal::ref
