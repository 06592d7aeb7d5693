// Attention over latent entries: latent_attention, where one row of a plane is K and V for all
// heads and the softmax runs over the entries of up to two segments.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ref.h"

namespace hadal::ref {
namespace {

/// The operands of one segment.
struct Segment {
  const host_chip::View &plane, &table, &first, &list;
  hadal_segment_attr attr;
};

/// Appends the entries of the segment that token row `t` sees, as doubles of `width`.
hadal_status read_visible(const Call& call, const Segment& s, int operand, int64_t t, int64_t width,
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
      return call.outside(static_cast<size_t>(operand) + 1, entry / slots, block,
                          s.plane.extents[0]);
    const std::byte* row = s.plane.row<std::byte>(block, entry % slots);
    for (int64_t c = 0; c < width; ++c)
      entries.push_back(static_cast<double>(load(row, s.plane.dtype, c)));
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
    if (e <= last || e >= most / ratio)
      return call.outside(static_cast<size_t>(operand) + 3, i, e, most / ratio);
    last = e;
    if (e < begin || e >= end) continue;
    if (const hadal_status status = read(e); status != HADAL_OK) return status;
  }
  return HADAL_OK;
}

}  // namespace

hadal_status latent_attention(const Call& call) {
  const auto& q = call[HADAL_LATENT_ATTENTION_Q];
  const auto& tail = call[HADAL_LATENT_ATTENTION_TAIL];
  const auto& out = call[HADAL_LATENT_ATTENTION_OUT];
  const hadal_latent_attr& attr = call.op->attr.latent;
  const std::vector<float> sink = read_vector(call[HADAL_LATENT_ATTENTION_SINK]);
  const int64_t width = call[HADAL_LATENT_ATTENTION_PLANE].extents[2], dv = out.extents[2];
  const auto segment = [&](int operand, int index) {
    const auto at = static_cast<size_t>(operand);
    return Segment{call[at], call[at + 1], call[at + 2], call[at + 3], attr.segments[index]};
  };
  std::vector<double> entries, query(static_cast<size_t>(width)), score,
      sum(static_cast<size_t>(dv));
  for (int64_t t = 0; t < q.extents[0]; ++t) {
    entries.clear();
    for (const int operand : {HADAL_LATENT_ATTENTION_PLANE, HADAL_LATENT_ATTENTION_PLANE2}) {
      if (!call[static_cast<size_t>(operand)].present()) continue;
      const Segment s = segment(operand, operand == HADAL_LATENT_ATTENTION_PLANE ? 0 : 1);
      if (const hadal_status status = read_visible(call, s, operand, t, width, entries);
          status != HADAL_OK)
        return status;
    }
    const auto count = static_cast<int64_t>(entries.size()) / width;
    score.resize(static_cast<size_t>(count));
    for (int64_t h = 0; h < q.extents[1]; ++h) {
      std::copy_n(q.row<float>(t, h), q.extents[2], query.data());
      if (tail.present())
        std::copy_n(tail.row<float>(t, h), tail.extents[2], query.data() + q.extents[2]);
      double top = sink.empty() ? -std::numeric_limits<double>::infinity()
                                : static_cast<double>(sink[static_cast<size_t>(h)]);
      double denominator = 0;
      for (int64_t j = 0; j < count; ++j) {
        score[static_cast<size_t>(j)] =
            static_cast<double>(attr.scale) * dot(query.data(), entries.data() + j * width, width);
        top = std::max(top, score[static_cast<size_t>(j)]);
      }
      if (!sink.empty())
        denominator = std::exp(static_cast<double>(sink[static_cast<size_t>(h)]) - top);
      std::fill(sum.begin(), sum.end(), 0.0);
      for (int64_t j = 0; j < count; ++j) {
        const double p = std::exp(score[static_cast<size_t>(j)] - top);
        denominator += p;
        for (int64_t c = 0; c < dv; ++c)
          sum[static_cast<size_t>(c)] += p * entries[static_cast<size_t>(j * width + c)];
      }
      // A row that sees no entry at all gets zeros.
      for (int64_t c = 0; c < dv; ++c)
        out.row<float>(t, h)[c] =
            denominator > 0 ? static_cast<float>(sum[static_cast<size_t>(c)] / denominator) : 0.0f;
    }
  }
  return HADAL_OK;
}

}  // namespace hadal::ref
