// compress: rows of a plane become one entry.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/operators.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

constexpr int64_t kPiece = 256;  ///< channels that are worked on at a time

/// One entry: softmax over its rows for each channel by itself.
struct Compressor {
  const View& plane;
  const int32_t* blocks;
  const float* ape;  ///< may be null
  int64_t d, width, ratio;
  bool overlap;

  void entry(int64_t last, float* out) const {
    const int64_t first = std::max<int64_t>(0, last + 1 - (overlap ? 2 : 1) * ratio);
    float top[kPiece], sum[kPiece];
    for (int64_t c = 0; c < d; c += kPiece) {
      const int64_t n = std::min(kPiece, d - c);
      const auto rows = [&](auto&& body) {
        for (int64_t p = first; p <= last; ++p) {
          const float* row = plane.row<float>(blocks[p / plane.extents[1]], p % plane.extents[1]);
          const int64_t at = (overlap && p > last - ratio ? d : 0) + c;
          body(row + at, row + width + at, ape ? ape + p % ratio * width + at : nullptr);
        }
      };
      std::fill_n(top, n, -std::numeric_limits<float>::infinity());
      std::fill_n(sum, n, 0.0f);
      std::fill_n(out + c, n, 0.0f);
      rows([&](const float*, const float* z, const float* pe) {
        for (int64_t i = 0; i < n; ++i) top[i] = std::max(top[i], z[i] + (pe ? pe[i] : 0.0f));
      });
      rows([&](const float* kv, const float* z, const float* pe) {
        for (int64_t i = 0; i < n; ++i) {
          const float p = std::exp(z[i] + (pe ? pe[i] : 0.0f) - top[i]);
          sum[i] += p;
          out[c + i] += p * kv[i];
        }
      });
      for (int64_t i = 0; i < n; ++i) out[c + i] /= sum[i];
    }
  }
};

void compress(const Call& call) {
  const float* ape = call.vector(HADAL_COMPRESS_APE);
  const View plane = call.view(HADAL_COMPRESS_PLANE), position = call.view(HADAL_COMPRESS_POSITION),
             row_seq = call.view(HADAL_COMPRESS_ROW_SEQ),
             table = call.view(HADAL_COMPRESS_BLOCK_TABLE), out = call.view(HADAL_COMPRESS_OUT);
  const hadal_compress_attr& a = call.op.attr.compress;
  const int64_t d = out.extents[1];
  call.share_rows(out.extents[0], 1, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) {
      const int64_t last = *position.row<int32_t>(t);
      if ((last + 1) % a.ratio != 0) {
        std::fill_n(out.row<float>(t), d, 0.0f);
        continue;
      }
      const Compressor compressor{plane,
                                  table.row<int32_t>(*row_seq.row<int32_t>(t)),
                                  ape,
                                  d,
                                  a.overlap ? 2 * d : d,
                                  a.ratio,
                                  a.overlap != 0};
      compressor.entry(last, out.row<float>(t));
    }
  });
}

std::string compress_indices(const Indices& at) {
  const View position = at.view(HADAL_COMPRESS_POSITION), row_seq = at.view(HADAL_COMPRESS_ROW_SEQ),
             plane = at.view(HADAL_COMPRESS_PLANE), table = at.view(HADAL_COMPRESS_BLOCK_TABLE);
  const int64_t slots = plane.extents[1], ratio = at.op.attr.compress.ratio;
  HADAL_RETURN_IF_TEXT(at.in_range(HADAL_COMPRESS_ROW_SEQ, 0, table.extents[0]));
  HADAL_RETURN_IF_TEXT(at.in_range(HADAL_COMPRESS_POSITION, 0, table.extents[1] * slots));
  for (int64_t t = 0; t < position.extents[0]; ++t) {
    const int64_t end = int64_t{*position.row<int32_t>(t)} + 1;
    if (end % ratio != 0) continue;
    const int64_t begin = std::max<int64_t>(0, end - (at.op.attr.compress.overlap ? 2 : 1) * ratio);
    for (int64_t i = begin / slots; i * slots < end; ++i)
      HADAL_RETURN_IF_TEXT(at.outside(HADAL_COMPRESS_BLOCK_TABLE, i,
                                      table.row<int32_t>(*row_seq.row<int32_t>(t))[i], 0,
                                      plane.extents[0]));
  }
  return {};
}

}  // namespace

const Operator kCompress = {.id = HADAL_OP_COMPRESS, .run = compress, .indices = compress_indices};

}  // namespace hadal::cpu
