// Faults that compute an operator anew, each in its own wrong way: index_blocks and engram_gate.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/floats.h"
#include "faulty.h"

namespace hadal::faulty {
namespace {

using host_chip::View;

double number(const std::byte* row, hadal_dtype dtype, int64_t i) {
  const auto* small = reinterpret_cast<const uint16_t*>(row) + i;
  return static_cast<double>(dtype == HADAL_F32   ? reinterpret_cast<const float*>(row)[i]
                             : dtype == HADAL_F16 ? f16_to_f32(*small)
                                                  : bf16_to_f32(*small));
}

/// The score of entry `e` for token row t.
double score(const Call& call, int64_t t, const std::byte* key) {
  const View q = call.view(HADAL_INDEX_BLOCKS_Q), weight = call.view(HADAL_INDEX_BLOCKS_WEIGHT);
  double sum = 0;
  for (int64_t h = 0; h < q.extents[1]; ++h) {
    double product = 0;
    for (int64_t c = 0; c < q.extents[2]; ++c)
      product += static_cast<double>(q.row<float>(t, h)[c]) *
                 number(key, call.view(HADAL_INDEX_BLOCKS_PLANE).dtype, c);
    sum += static_cast<double>(weight.row<float>(t)[h]) * std::max(0.0, product);
  }
  return sum;
}

/// A block's largest score, or their mean.
struct Block {
  int64_t id = 0, entries = 0;
  double score = 0;
};

/// The blocks that token row t sees; none where a page is missing, since then the good chip
/// refused.
std::vector<Block> seen_blocks(const Call& call, int64_t t) {
  const View plane = call.view(HADAL_INDEX_BLOCKS_PLANE);
  const View table = call.view(HADAL_INDEX_BLOCKS_BLOCK_TABLE);
  const int32_t s = *call.view(HADAL_INDEX_BLOCKS_ROW_SEQ).row<int32_t>(t);
  const int64_t ratio = call.op.attr.index.ratio, size = call.op.attr.index.block_size;
  const int64_t first = *call.view(HADAL_INDEX_BLOCKS_FIRST).row<int32_t>(s);
  const int64_t position = *call.view(HADAL_INDEX_BLOCKS_POSITION).row<int32_t>(t);
  std::vector<Block> blocks;
  for (int64_t e = (first + ratio - 1) / ratio; e < (position + 1) / ratio; ++e) {
    const int32_t page = table.row<int32_t>(s)[e / plane.extents[1]];
    if (page < 0 || page >= plane.extents[0]) return {};
    const double one = score(call, t, plane.row<std::byte>(page, e % plane.extents[1]));
    if (blocks.empty() || blocks.back().id != e / size) blocks.push_back({e / size, 0, one});
    Block& block = blocks.back();
    const auto before = static_cast<double>(block.entries++);
    block.score = call.fault == kMeanOfBlock ? (block.score * before + one) / (before + 1)
                                             : std::max(block.score, one);
  }
  return blocks;
}

}  // namespace

void list_blocks(Call& call) {
  const View list = call.view(HADAL_INDEX_BLOCKS_LIST);
  for (int64_t t = 0; t < list.extents[0]; ++t) {
    std::vector<Block> blocks = seen_blocks(call, t);
    if (blocks.empty()) continue;
    if (call.fault != kForgetsLastBlock)
      blocks.back().score = std::numeric_limits<double>::infinity();
    const bool higher = call.fault == kTiesToHigherBlock;
    std::sort(blocks.begin(), blocks.end(), [&](const Block& a, const Block& b) {
      return a.score > b.score || (a.score == b.score && (a.id < b.id) != higher);
    });
    int32_t* to = list.row<int32_t>(t);
    const auto count = std::min(static_cast<size_t>(list.extents[1]), blocks.size());
    for (size_t i = 0; i < count; ++i) to[i] = static_cast<int32_t>(blocks[i].id);
    std::sort(to, to + count);
  }
}

void gate_streams(Call& call) {
  const View x = call.view(HADAL_ENGRAM_GATE_X), key = call.view(HADAL_ENGRAM_GATE_KEY);
  const std::vector<float>& q = vector_of(call.view(HADAL_ENGRAM_GATE_Q_WEIGHT).weight);
  const std::vector<float>& k = vector_of(call.view(HADAL_ENGRAM_GATE_K_WEIGHT).weight);
  const hadal_engram_attr& a = call.op.attr.engram;
  const int64_t n = x.extents[1], d = x.extents[2];
  size_t next = 0;
  each(x, [&](float* v) { *v = call.saved[next++]; });
  const auto squares = [&](const View& v, int64_t t, int64_t i) {
    double sum = 0;
    for (int64_t c = 0; c < d; ++c) sum += std::pow(static_cast<double>(v.row<float>(t, i)[c]), 2);
    return sum;
  };
  const auto root = [&](const View& v, int64_t t, int64_t i) {
    double sum = squares(v, t, i), count = static_cast<double>(d);
    for (int64_t j = 0; call.fault == kJointEngramNorm && j < n; ++j)
      if (j != i) {
        sum += squares(v, t, j);
        count += static_cast<double>(d);
      }
    return std::sqrt(sum / count + static_cast<double>(a.eps));
  };
  for (int64_t t = 0; t < x.extents[0]; ++t) {
    std::vector<double> gates;
    for (int64_t i = 0; i < n; ++i) {
      double r = 0;
      for (int64_t c = 0; c < d; ++c) {
        const auto w = static_cast<size_t>(i * d + c);
        r += static_cast<double>(x.row<float>(t, i)[c]) *
             static_cast<double>(key.row<float>(t, i)[c]) * static_cast<double>(q[w]) *
             (call.fault == kForgetsKeyWeight ? 1.0 : static_cast<double>(k[w]));
      }
      r /= root(x, t, i) * root(key, t, i);
      if (call.fault != kForgetsRootWidth) r /= std::sqrt(static_cast<double>(d));
      const double size = std::sqrt(std::max(std::fabs(r), static_cast<double>(a.floor)));
      gates.push_back(1 / (1 + std::exp(r < 0 && call.fault != kDropsEngramSign ? size : -size)));
    }
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = 0; c < d; ++c)
        x.row<float>(t, i)[c] = static_cast<float>(
            static_cast<double>(x.row<float>(t, i)[c]) +
            gates[static_cast<size_t>(i)] *
                static_cast<double>(call.view(HADAL_ENGRAM_GATE_VALUE).row<float>(t)[c]));
  }
}

}  // namespace hadal::faulty
