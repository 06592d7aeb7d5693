// compress: rows of a plane become one entry.
#include <algorithm>
#include <cmath>
#include <vector>

#include "ref.h"

namespace hadal::ref {

// out[t] = sum_j softmax_j(z[j] + ape[j]) kv[j], channel by channel
hadal_status compress(const Call& call) {
  const auto& plane = call[HADAL_COMPRESS_PLANE];
  const auto& table = call[HADAL_COMPRESS_BLOCK_TABLE];
  const auto& out = call[HADAL_COMPRESS_OUT];
  const std::vector<float> ape = read_vector(call[HADAL_COMPRESS_APE]);
  const auto ratio = static_cast<int64_t>(call.op->attr.compress.ratio);
  const bool overlap = call.op->attr.compress.overlap != 0;
  const int64_t d = out.extents[1], width = overlap ? 2 * d : d, slots = plane.extents[1];
  for (int64_t t = 0; t < out.extents[0]; ++t) {
    float* to = out.row<float>(t);
    std::fill(to, to + d, 0.0f);
    const int64_t last = *call[HADAL_COMPRESS_POSITION].row<int32_t>(t);
    const int32_t s = *call[HADAL_COMPRESS_ROW_SEQ].row<int32_t>(t);
    if (s < 0 || s >= table.extents[0])
      return call.outside(HADAL_COMPRESS_ROW_SEQ, t, s, table.extents[0]);
    if (last < 0 || last >= table.extents[1] * slots)
      return call.outside(HADAL_COMPRESS_POSITION, t, last, table.extents[1] * slots);
    if ((last + 1) % ratio != 0) continue;
    const int64_t first = std::max<int64_t>(0, last + 1 - (overlap ? 2 : 1) * ratio);
    // The row of position p, and where its channels begin: A before the last `ratio` rows.
    std::vector<std::pair<const float*, int64_t>> rows;
    for (int64_t p = first; p <= last; ++p) {
      const int32_t block = table.row<int32_t>(s)[p / slots];
      if (block < 0 || block >= plane.extents[0])
        return call.outside(HADAL_COMPRESS_BLOCK_TABLE, p / slots, block, plane.extents[0]);
      rows.emplace_back(plane.row<float>(block, p % slots), overlap && p > last - ratio ? d : 0);
    }
    for (int64_t c = 0; c < d; ++c) {
      std::vector<double> z;
      for (size_t i = 0; i < rows.size(); ++i) {
        const auto& [row, at] = rows[i];
        const int64_t phase = (first + static_cast<int64_t>(i)) % ratio;
        z.push_back(static_cast<double>(row[width + at + c]) +
                    (ape.empty()
                         ? 0.0
                         : static_cast<double>(ape[static_cast<size_t>(phase * width + at + c)])));
      }
      const double top = *std::max_element(z.begin(), z.end());
      double sum = 0, value = 0;
      for (size_t i = 0; i < rows.size(); ++i) {
        const double p = std::exp(z[i] - top);
        sum += p;
        value += p * static_cast<double>(rows[i].first[rows[i].second + c]);
      }
      to[c] = static_cast<float>(value / sum);
    }
  }
  return HADAL_OK;
}

}  // namespace hadal::ref
