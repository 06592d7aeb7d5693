// gqa_attention and latent_attention: q, k, v and p are rounded to bf16, sums are fp32, and the
// softmax carries its maximum along over tiles of 32 entries. What a row gets depends on its own
// entries alone.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "contract/operators.h"
#include "operators.h"
#include "planes.h"

namespace hadal::apart {
namespace {

constexpr int64_t kTile = 32;

/// The softmax of one query head, tile by tile.
class Softmax {
 public:
  /// sink: null, or the logit that joins the denominator.
  Softmax(int64_t width, const float* sink)
      : top_(sink ? *sink : -std::numeric_limits<float>::infinity()),
        denominator_(sink ? 1.0f : 0.0f),
        sum_(static_cast<size_t>(width)) {}

  /// n <= kTile scores, and their values, a row of `stride` numbers each.
  void fold(const float* scores, int64_t n, const float* values, int64_t stride) {
    const float top = std::max(top_, *std::max_element(scores, scores + n));
    const float shrink = std::exp(top_ - top);
    top_ = top;
    denominator_ *= shrink;
    for (float& s : sum_) s *= shrink;
    for (int64_t j = 0; j < n; ++j) {
      float p = std::exp(scores[j] - top);
      denominator_ += p;
      round_half(&p, 1, &p);
      for (size_t c = 0; c < sum_.size(); ++c)
        sum_[c] += p * values[j * stride + static_cast<int64_t>(c)];
    }
  }

  /// Zeros for a row that saw nothing.
  void write(float* out) const {
    for (size_t c = 0; c < sum_.size(); ++c)
      out[c] = denominator_ == 0.0f ? 0.0f : sum_[c] / denominator_;
  }

 private:
  float top_;
  float denominator_;
  std::vector<float> sum_;
};

const float* sink_of(const std::vector<float>& sink, int64_t head) {
  return sink.empty() ? nullptr : &sink[static_cast<size_t>(head)];
}

/// Positions [begin, end) of a sequence.
struct Range {
  int32_t sequence = -1;
  int64_t begin = 0, end = 0;
};

hadal_status visible_positions(const ref::Call& call, int64_t t, Range* range) {
  const auto& table = call[HADAL_GQA_ATTENTION_BLOCK_TABLE];
  const int64_t last = *call[HADAL_GQA_ATTENTION_POSITION].row<int32_t>(t);
  const int32_t s = *call[HADAL_GQA_ATTENTION_ROW_SEQ].row<int32_t>(t);
  if (s < 0 || s >= table.extents[0])
    return call.outside(HADAL_GQA_ATTENTION_ROW_SEQ, t, s, table.extents[0]);
  const int64_t most = table.extents[1] * call[HADAL_GQA_ATTENTION_K].extents[1];
  if (last < 0 || last >= most) return call.outside(HADAL_GQA_ATTENTION_POSITION, t, last, most);
  *range = {s, std::max(*call[HADAL_GQA_ATTENTION_FIRST].row<int32_t>(s), 0), last + 1};
  if (const int64_t window = call.op->attr.attention.window; window != 0)
    range->begin = std::max(range->begin, range->end - window);
  return HADAL_OK;
}

/// K and V of one head as floats, kept while rows of the same sequence follow each other.
class Decoded {
 public:
  Decoded(const ref::Call& call, int64_t kv_head, int64_t d, int64_t dv)
      : call_(call), kv_head_(kv_head), d_(d), dv_(dv) {}

  hadal_status cover(const Range& wanted) {
    const auto& k = call_[HADAL_GQA_ATTENTION_K];
    const auto& v = call_[HADAL_GQA_ATTENTION_V];
    const int64_t slots = k.extents[1];
    if (wanted.sequence != held_.sequence || wanted.begin < held_.begin || wanted.begin > held_.end)
      held_ = {wanted.sequence, wanted.begin, wanted.begin};
    const auto most = static_cast<size_t>(std::max(wanted.end, held_.end) - held_.begin);
    k_.resize(most * static_cast<size_t>(d_));
    v_.resize(most * static_cast<size_t>(dv_));
    for (; held_.end < wanted.end; ++held_.end) {
      const int64_t p = held_.end;
      const int32_t block =
          call_[HADAL_GQA_ATTENTION_BLOCK_TABLE].row<int32_t>(wanted.sequence)[p / slots];
      if (block < 0 || block >= k.extents[0] || block >= v.extents[0])
        return call_.outside(HADAL_GQA_ATTENTION_BLOCK_TABLE, p / slots, block, k.extents[0]);
      const ref::Slot at{block, p % slots};
      float* const k_row = k_.data() + (p - held_.begin) * d_;
      float* const v_row = v_.data() + (p - held_.begin) * dv_;
      read_numbers(k, at, kv_head_ * d_, d_, k_row);
      round_half(k_row, d_, k_row);
      read_numbers(v, at, kv_head_ * dv_, dv_, v_row);
      round_half(v_row, dv_, v_row);
    }
    return HADAL_OK;
  }
  [[nodiscard]] const float* k(int64_t p) const { return k_.data() + (p - held_.begin) * d_; }
  [[nodiscard]] const float* v(int64_t p) const { return v_.data() + (p - held_.begin) * dv_; }

 private:
  const ref::Call& call_;
  int64_t kv_head_, d_, dv_;
  Range held_;
  std::vector<float> k_, v_;
};

/// Where an entry lies, and in which segment.
struct Entry {
  size_t segment;
  ref::Slot at;
};

/// Appends the entries of segment `i` that token row `t` sees.
hadal_status visible_entries(const ref::Call& call, size_t i, int64_t t,
                             std::vector<Entry>& entries) {
  const contract::SegmentOperands& operands = contract::kLatentSegments[i];
  const auto& plane = call[operands.plane];
  const auto& table = call[operands.block_table];
  const auto& list = call[operands.list];
  const hadal_segment_attr& attr = call.op->attr.latent.segments[i];
  const int64_t position = *call[HADAL_LATENT_ATTENTION_POSITION].row<int32_t>(t);
  const int32_t s = *call[HADAL_LATENT_ATTENTION_ROW_SEQ].row<int32_t>(t);
  const int64_t slots = plane.extents[1], ratio = attr.ratio;
  if (s < 0 || s >= table.extents[0])
    return call.outside(HADAL_LATENT_ATTENTION_ROW_SEQ, t, s, table.extents[0]);
  const int64_t most = table.extents[1] * slots;
  if (position < 0 || position >= most * ratio)
    return call.outside(HADAL_LATENT_ATTENTION_POSITION, t, position, most * ratio);
  const int64_t end = (position + 1) / ratio;
  int64_t begin = (std::max(*call[operands.first].row<int32_t>(s), 0) + ratio - 1) / ratio;
  if (attr.window != 0) begin = std::max(begin, end - int64_t{attr.window});
  const auto append = [&](int64_t e) -> hadal_status {
    const int32_t block = table.row<int32_t>(s)[e / slots];
    if (block < 0 || block >= plane.extents[0])
      return call.outside(operands.block_table, e / slots, block, plane.extents[0]);
    entries.push_back({i, {block, e % slots}});
    return HADAL_OK;
  };
  if (!list.present()) {
    for (int64_t e = begin; e < end; ++e)
      if (const hadal_status status = append(e); status != HADAL_OK) return status;
    return HADAL_OK;
  }
  int64_t last = -1;
  for (int64_t j = 0; j < list.extents[1]; ++j) {
    const int64_t e = list.row<int32_t>(t)[j];
    if (e < 0) break;
    if (e <= last || e >= most) return call.outside(operands.list, j, e, most);
    last = e;
    if (e < begin || e >= end) continue;
    if (const hadal_status status = append(e); status != HADAL_OK) return status;
  }
  return HADAL_OK;
}

/// The queries of a row, [H, D + Dr], rounded.
std::vector<float> latent_queries(const ref::Call& call, int64_t t, int64_t width) {
  const auto& q = call[HADAL_LATENT_ATTENTION_Q];
  const auto& tail = call[HADAL_LATENT_ATTENTION_TAIL];
  std::vector<float> queries(static_cast<size_t>(q.extents[1] * width));
  for (int64_t h = 0; h < q.extents[1]; ++h) {
    float* const to = queries.data() + h * width;
    round_half(q.row<float>(t, h), q.extents[2], to);
    if (tail.present()) round_half(tail.row<float>(t, h), tail.extents[2], to + q.extents[2]);
  }
  return queries;
}

}  // namespace

// out[t, h] = sum_j softmax_j(scale q[t, h] . k[j, h']) v[j, h'], h' = h div group
hadal_status gqa_attention(const ref::Call& call) {
  const auto& q = call[HADAL_GQA_ATTENTION_Q];
  const auto& out = call[HADAL_GQA_ATTENTION_OUT];
  const std::vector<float> sink = ref::read_vector(call[HADAL_GQA_ATTENTION_SINK]);
  const int64_t kv_heads = call.op->attr.attention.kv_heads, group = q.extents[1] / kv_heads;
  const int64_t d = q.extents[2], dv = out.extents[2];
  std::vector<float> query(static_cast<size_t>(d));
  float scores[kTile];
  for (int64_t kv_head = 0; kv_head < kv_heads; ++kv_head) {
    Decoded decoded(call, kv_head, d, dv);
    for (int64_t t = 0; t < q.extents[0]; ++t) {
      Range range;
      hadal_status status = visible_positions(call, t, &range);
      if (status == HADAL_OK) status = decoded.cover(range);
      if (status != HADAL_OK) return status;
      for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
        round_half(q.row<float>(t, h), d, query.data());
        Softmax softmax(dv, sink_of(sink, h));
        for (int64_t p = range.begin; p < range.end; p += kTile) {
          const int64_t n = std::min(kTile, range.end - p);
          for (int64_t j = 0; j < n; ++j)
            scores[j] = call.op->attr.attention.scale * dot(query.data(), decoded.k(p + j), d);
          softmax.fold(scores, n, decoded.v(p), dv);
        }
        softmax.write(out.row<float>(t, h));
      }
    }
  }
  return HADAL_OK;
}

// out[t, h] = sum_e softmax_e(scale [q; tail] . entry[e]) entry[e][0 … Dv), over both segments
hadal_status latent_attention(const ref::Call& call) {
  const auto& q = call[HADAL_LATENT_ATTENTION_Q];
  const auto& out = call[HADAL_LATENT_ATTENTION_OUT];
  const std::vector<float> sink = ref::read_vector(call[HADAL_LATENT_ATTENTION_SINK]);
  const int64_t width = call[HADAL_LATENT_ATTENTION_PLANE].extents[2];
  std::vector<float> tile(static_cast<size_t>(kTile * width));
  std::vector<Entry> entries;
  float scores[kTile];
  for (int64_t t = 0; t < q.extents[0]; ++t) {
    entries.clear();
    for (size_t i = 0; i < 2; ++i)
      if (call[contract::kLatentSegments[i].plane].present())
        if (const hadal_status s = visible_entries(call, i, t, entries); s != HADAL_OK) return s;
    const std::vector<float> queries = latent_queries(call, t, width);
    std::vector<Softmax> heads;
    for (int64_t h = 0; h < q.extents[1]; ++h) heads.emplace_back(out.extents[2], sink_of(sink, h));
    for (size_t from = 0; from < entries.size(); from += kTile) {
      const auto n = static_cast<int64_t>(std::min<size_t>(kTile, entries.size() - from));
      for (int64_t j = 0; j < n; ++j) {
        const Entry& e = entries[from + static_cast<size_t>(j)];
        read_numbers(call[contract::kLatentSegments[e.segment].plane], e.at, 0, width,
                     tile.data() + j * width);
      }
      round_half(tile.data(), n * width, tile.data());
      for (int64_t h = 0; h < q.extents[1]; ++h) {
        for (int64_t j = 0; j < n; ++j)
          scores[j] = call.op->attr.latent.scale *
                      dot(queries.data() + h * width, tile.data() + j * width, width);
        heads[static_cast<size_t>(h)].fold(scores, n, tile.data(), width);
      }
    }
    for (int64_t h = 0; h < q.extents[1]; ++h)
      heads[static_cast<size_t>(h)].write(out.row<float>(t, h));
  }
  return HADAL_OK;
}

}  // namespace hadal::apart
