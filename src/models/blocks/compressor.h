// The token compressor (DeepSeek-V4, §2.3): every `ratio` tokens become one cache entry.
//
//   kv = W_kv x, z = W_gate x,   entry = norm(Σ_j softmax_j(z_j + APE_j) ⊙ kv_j), then RoPE by the
//   position of the group's first token
//
// With overlap, kv and z have two halves [A | B]: an entry takes A of the group before it and B of
// its own. The rows kv and z are cached, so that an entry can be made whatever the cut of the
// prompt.
#pragma once

#include <string>

#include "models/model.h"

namespace hadal {

struct CompressorSpec {
  int64_t ratio = 0;
  bool overlap = false;
  int64_t width = 0;  ///< of an entry
  RopeSpec rope;      ///< turns the last numbers of an entry
  [[nodiscard]] int64_t row_width() const { return overlap ? 2 * width : width; }  ///< of kv and z
};

struct CompressorWeights {
  Weight* wkv = nullptr;    // [row width, hidden]
  Weight* wgate = nullptr;  // [row width, hidden]
  Weight* ape = nullptr;    // [ratio * row width]
  Weight* norm = nullptr;   // [width]
};

/// Where a layer's compressor keeps its rows and its entries.
struct CompressorPlanes {
  Tensor rows{}, entries{};
  size_t rows_group = 0, entries_group = 0;
};

/// `prefix` ends in a dot: "layers.2.attn.compressor.".
CompressorWeights bind_compressor(WeightBinder& binder, const std::string& prefix,
                                  const CompressorSpec& spec, int64_t hidden);

/// Caches the rows of h and the entries that end with one of them.   h [T, hidden]
void compress(Ops& ops, const CompressorSpec& spec, const CompressorWeights& w, double eps,
              Tensor inv_freq, const CompressorPlanes& planes, Tensor h);

/// The rotation of the last `dims` numbers of a head of `width`.
Rope rope_of_tail(const RopeSpec& rope, Tensor inv_freq, int64_t width);

}  // namespace hadal
