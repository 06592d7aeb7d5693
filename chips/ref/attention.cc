// gqa_attention: the softmax in two passes over the visible positions, in ascending order.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ref.h"

namespace hadal::ref {
namespace {

/// The operands of one call, and room for one token row and one group of heads.
struct Attention {
  explicit Attention(const Call& from)
      : call(from),
        q(call[HADAL_GQA_ATTENTION_Q]),
        k(call[HADAL_GQA_ATTENTION_K]),
        v(call[HADAL_GQA_ATTENTION_V]),
        out(call[HADAL_GQA_ATTENTION_OUT]),
        sink(read_vector(call[HADAL_GQA_ATTENTION_SINK])),
        group(q.extents[1] / static_cast<int64_t>(call.op->attr.attention.kv_heads)),
        k_row(static_cast<size_t>(q.extents[2])),
        sum(static_cast<size_t>(out.extents[2])) {}

  const Call& call;
  const host_chip::View &q, &k, &v, &out;
  std::vector<float> sink;
  int64_t group;               ///< query heads that share one head of K and V
  std::vector<Slot> visible;   ///< where the visible positions lie, ascending
  std::vector<double> k_row;   ///< [D]
  std::vector<double> sum;     ///< [Dv]
  std::vector<double> scores;  ///< [group, visible positions]: scores, then exp(score - max)

  hadal_status find_visible(int64_t t);
  void score_group(int64_t t, int64_t kv_head);
  void attend(int64_t t, int64_t kv_head, int64_t member);
};

// Positions max(first[s], position - window + 1) … position of the row's sequence.
hadal_status Attention::find_visible(int64_t t) {
  const auto& block_table = call[HADAL_GQA_ATTENTION_BLOCK_TABLE];
  const int64_t slots = k.extents[1];
  const int64_t last = *call[HADAL_GQA_ATTENTION_POSITION].row<int32_t>(t);
  const int32_t s = *call[HADAL_GQA_ATTENTION_ROW_SEQ].row<int32_t>(t);
  if (s < 0 || s >= block_table.extents[0])
    return call.outside(HADAL_GQA_ATTENTION_ROW_SEQ, t, s, block_table.extents[0]);
  const int64_t end = block_table.extents[1] * slots;
  if (last < 0 || last >= end) return call.outside(HADAL_GQA_ATTENTION_POSITION, t, last, end);
  int64_t first = std::max(*call[HADAL_GQA_ATTENTION_FIRST].row<int32_t>(s), 0);
  if (const uint32_t window = call.op->attr.attention.window; window != 0)
    first = std::max(first, last - static_cast<int64_t>(window) + 1);
  visible.clear();
  for (int64_t j = first; j <= last; ++j) {
    const int32_t block = block_table.row<int32_t>(s)[j / slots];
    if (block < 0 || block >= k.extents[0])
      return call.outside(HADAL_GQA_ATTENTION_BLOCK_TABLE, j / slots, block, k.extents[0]);
    visible.push_back({block, j % slots});
  }
  return HADAL_OK;
}

// scores[i, j] = scale q[t, kv_head * group + i] . k[j, kv_head]
void Attention::score_group(int64_t t, int64_t kv_head) {
  const int64_t d = q.extents[2];
  const auto count = static_cast<int64_t>(visible.size());
  const auto scale = static_cast<double>(call.op->attr.attention.scale);
  std::vector<double> queries(static_cast<size_t>(group * d));
  for (int64_t i = 0; i < group; ++i)
    for (int64_t c = 0; c < d; ++c)
      queries[static_cast<size_t>(i * d + c)] =
          static_cast<double>(q.row<float>(t, kv_head * group + i)[c]);
  scores.resize(static_cast<size_t>(group * count));
  for (int64_t j = 0; j < count; ++j) {
    const Slot at = visible[static_cast<size_t>(j)];
    const std::byte* row = k.row<std::byte>(at.block, at.slot);
    for (int64_t c = 0; c < d; ++c)
      k_row[static_cast<size_t>(c)] = static_cast<double>(load(row, k.dtype, kv_head * d + c));
    for (int64_t i = 0; i < group; ++i)
      scores[static_cast<size_t>(i * count + j)] =
          scale * dot(queries.data() + i * d, k_row.data(), d);
  }
}

// Softmax of one query head's scores, and the weighted sum of V.
void Attention::attend(int64_t t, int64_t kv_head, int64_t member) {
  const auto count = static_cast<int64_t>(visible.size());
  const int64_t h = kv_head * group + member;
  const int64_t dv = out.extents[2];
  double* p = scores.data() + member * count;
  double top = -std::numeric_limits<double>::infinity();
  for (int64_t j = 0; j < count; ++j) top = std::max(top, p[j]);
  double denominator = 0;
  if (!sink.empty()) {
    const auto s = static_cast<double>(sink[static_cast<size_t>(h)]);
    top = std::max(top, s);
    denominator = std::exp(s - top);
  }
  std::fill(sum.begin(), sum.end(), 0.0);
  for (int64_t j = 0; j < count; ++j) {
    p[j] = std::exp(p[j] - top);
    denominator += p[j];
    const Slot at = visible[static_cast<size_t>(j)];
    const std::byte* row = v.row<std::byte>(at.block, at.slot);
    for (int64_t c = 0; c < dv; ++c)
      sum[static_cast<size_t>(c)] +=
          p[j] * static_cast<double>(load(row, v.dtype, kv_head * dv + c));
  }
  // A row that sees no position at all gets zeros.
  float* to = out.row<float>(t, h);
  for (int64_t c = 0; c < dv; ++c)
    to[c] = denominator > 0 ? static_cast<float>(sum[static_cast<size_t>(c)] / denominator) : 0.0f;
}

}  // namespace

// out[t, h] = sum_j softmax_j(scale q[t, h] . k[j, h']) v[j, h'], h' = h div group
hadal_status gqa_attention(const Call& call) {
  Attention a(call);
  for (int64_t t = 0; t < a.q.extents[0]; ++t) {
    if (const hadal_status status = a.find_visible(t); status != HADAL_OK) return status;
    for (int64_t kv_head = 0; kv_head < static_cast<int64_t>(call.op->attr.attention.kv_heads);
         ++kv_head) {
      a.score_group(t, kv_head);
      for (int64_t member = 0; member < a.group; ++member) a.attend(t, kv_head, member);
    }
  }
  return HADAL_OK;
}

}  // namespace hadal::ref
