// gqa_attention: the softmax in two passes over the visible positions, in ascending order; and
// latent_attention, where one row of a plane is K and V for all heads and the softmax runs over the
// entries of up to two segments. A table that rounds takes q, k, v and the probabilities by halves
// (rounding.h).
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "contract/operators.h"
#include "ref.h"

namespace hadal::ref {
namespace {

/// exp(score - top), rounded as the operand that it becomes.
double probability(double score, double top, Rounding rounding) {
  const double p = std::exp(score - top);
  return rounding == Rounding{} ? p : round_attention(static_cast<float>(p), rounding);
}

/// The operands of one call, and room for one token row and one group of heads.
struct Attention {
  explicit Attention(const Call& from)
      : call(from),
        q(call[HADAL_GQA_ATTENTION_Q]),
        k(call[HADAL_GQA_ATTENTION_K]),
        v(call[HADAL_GQA_ATTENTION_V]),
        out(call[HADAL_GQA_ATTENTION_OUT]),
        rounding(attention_rounding(call.rounding)),
        sink(read_vector(call[HADAL_GQA_ATTENTION_SINK])),
        group(q.extents[1] / static_cast<int64_t>(call.op->attr.attention.kv_heads)),
        k_row(static_cast<size_t>(q.extents[2])),
        sum(static_cast<size_t>(out.extents[2])) {}

  const Call& call;
  const host_chip::View &q, &k, &v, &out;
  Rounding rounding;
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
          round_attention(q.row<float>(t, kv_head * group + i)[c], rounding);
  scores.resize(static_cast<size_t>(group * count));
  for (int64_t j = 0; j < count; ++j) {
    const Slot at = visible[static_cast<size_t>(j)];
    const std::byte* row = k.row<std::byte>(at.block, at.slot);
    for (int64_t c = 0; c < d; ++c)
      k_row[static_cast<size_t>(c)] =
          round_attention(load(row, k.dtype, kv_head * d + c), rounding);
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
    p[j] = probability(p[j], top, rounding);
    denominator += p[j];
    const Slot at = visible[static_cast<size_t>(j)];
    const std::byte* row = v.row<std::byte>(at.block, at.slot);
    for (int64_t c = 0; c < dv; ++c)
      sum[static_cast<size_t>(c)] +=
          p[j] * round_attention(load(row, v.dtype, kv_head * dv + c), rounding);
  }
  // A row that sees no position at all gets zeros.
  float* to = out.row<float>(t, h);
  for (int64_t c = 0; c < dv; ++c)
    to[c] = denominator > 0 ? static_cast<float>(sum[static_cast<size_t>(c)] / denominator) : 0.0f;
}

/// The operands of one segment.
struct Segment {
  const host_chip::View &plane, &table, &first, &list;
  hadal_segment_attr attr;
};

/// Appends the entries of the segment that token row `t` sees, as doubles of `width`.
hadal_status read_visible(const Call& call, const Segment& s,
                          const contract::SegmentOperands& operands, int64_t t, int64_t width,
                          std::vector<double>& entries) {
  const int64_t position = *call[HADAL_LATENT_ATTENTION_POSITION].row<int32_t>(t);
  const int32_t seq = *call[HADAL_LATENT_ATTENTION_ROW_SEQ].row<int32_t>(t);
  const int64_t slots = s.plane.extents[1];
  const auto ratio = static_cast<int64_t>(s.attr.ratio);
  if (seq < 0 || seq >= s.table.extents[0])
    return call.outside(HADAL_LATENT_ATTENTION_ROW_SEQ, t, seq, s.table.extents[0]);
  const int64_t most = s.table.extents[1] * slots * ratio;
  if (position < 0 || position >= most)
    return call.outside(HADAL_LATENT_ATTENTION_POSITION, t, position, most);
  const int64_t end = (position + 1) / ratio;
  int64_t begin = (std::max<int64_t>(0, *s.first.row<int32_t>(seq)) + ratio - 1) / ratio;
  if (s.attr.window != 0) begin = std::max(begin, end - static_cast<int64_t>(s.attr.window));
  const auto read = [&](int64_t entry) -> hadal_status {
    const int32_t block = s.table.row<int32_t>(seq)[entry / slots];
    if (block < 0 || block >= s.plane.extents[0])
      return call.outside(operands.block_table, entry / slots, block, s.plane.extents[0]);
    const std::byte* row = s.plane.row<std::byte>(block, entry % slots);
    for (int64_t c = 0; c < width; ++c)
      entries.push_back(
          round_attention(load(row, s.plane.dtype, c), attention_rounding(call.rounding)));
    return HADAL_OK;
  };
  if (!s.list.present()) {
    for (int64_t e = begin; e < end; ++e)
      if (const hadal_status status = read(e); status != HADAL_OK) return status;
    return HADAL_OK;
  }
  int64_t last = -1;
  for (int64_t i = 0; i < s.list.extents[1]; ++i) {
    const int64_t e = s.list.row<int32_t>(t)[i];
    if (e < 0) break;
    if (e <= last || e >= most / ratio) return call.outside(operands.list, i, e, most / ratio);
    last = e;
    if (e < begin || e >= end) continue;
    if (const hadal_status status = read(e); status != HADAL_OK) return status;
  }
  return HADAL_OK;
}

/// Softmax over `entries`, rows as wide as `query`, and the weighted sum of their first numbers.
/// `sink` may be null.
void attend_entries(const Call& call, const std::vector<double>& query,
                    const std::vector<double>& entries, const float* sink, float* out) {
  const auto width = static_cast<int64_t>(query.size());
  const auto count = static_cast<int64_t>(entries.size()) / width;
  const int64_t dv = call[HADAL_LATENT_ATTENTION_OUT].extents[2];
  const auto scale = static_cast<double>(call.op->attr.latent.scale);
  std::vector<double> score(static_cast<size_t>(count)), sum(static_cast<size_t>(dv), 0.0);
  double top = sink ? static_cast<double>(*sink) : -std::numeric_limits<double>::infinity();
  for (int64_t j = 0; j < count; ++j) {
    score[static_cast<size_t>(j)] = scale * dot(query.data(), entries.data() + j * width, width);
    top = std::max(top, score[static_cast<size_t>(j)]);
  }
  double denominator = sink ? std::exp(static_cast<double>(*sink) - top) : 0.0;
  for (int64_t j = 0; j < count; ++j) {
    const double p =
        probability(score[static_cast<size_t>(j)], top, attention_rounding(call.rounding));
    denominator += p;
    for (int64_t c = 0; c < dv; ++c)
      sum[static_cast<size_t>(c)] += p * entries[static_cast<size_t>(j * width + c)];
  }
  // A row that sees no entry at all gets zeros.
  for (int64_t c = 0; c < dv; ++c)
    out[c] = denominator > 0 ? static_cast<float>(sum[static_cast<size_t>(c)] / denominator) : 0.0f;
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

// As gqa_attention, over the entries of both segments, which are K and V of all heads.
hadal_status latent_attention(const Call& call) {
  const auto& q = call[HADAL_LATENT_ATTENTION_Q];
  const auto& tail = call[HADAL_LATENT_ATTENTION_TAIL];
  const hadal_latent_attr& attr = call.op->attr.latent;
  const Rounding rounding = attention_rounding(call.rounding);
  const std::vector<float> sink = read_vector(call[HADAL_LATENT_ATTENTION_SINK]);
  const int64_t width = call[HADAL_LATENT_ATTENTION_PLANE].extents[2];
  std::vector<double> entries, query(static_cast<size_t>(width));
  for (int64_t t = 0; t < q.extents[0]; ++t) {
    entries.clear();
    for (size_t i = 0; i < 2; ++i) {
      const contract::SegmentOperands& operands = contract::kLatentSegments[i];
      if (!call[operands.plane].present()) continue;
      const Segment s{call[operands.plane], call[operands.block_table], call[operands.first],
                      call[operands.list], attr.segments[i]};
      if (const hadal_status status = read_visible(call, s, operands, t, width, entries);
          status != HADAL_OK)
        return status;
    }
    for (int64_t h = 0; h < q.extents[1]; ++h) {
      for (int64_t c = 0; c < width; ++c)
        query[static_cast<size_t>(c)] = round_attention(
            c < q.extents[2] ? q.row<float>(t, h)[c] : tail.row<float>(t, h)[c - q.extents[2]],
            rounding);
      attend_entries(call, query, entries, sink.empty() ? nullptr : &sink[static_cast<size_t>(h)],
                     call[HADAL_LATENT_ATTENTION_OUT].row<float>(t, h));
    }
  }
  return HADAL_OK;
}

}  // namespace hadal::ref
