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
  PlaneHandle row_plane, entry_plane;

  [[nodiscard]] int64_t row_width() const { return overlap ? 2 * width : width; }  ///< of kv and z
  /// Rows and entries of `layers` layers; role: that of the entries.
  void add_planes(ModelSpec& model, GroupHandle rows, GroupHandle entries, PlaneRole role,
                  int64_t layers);
};

struct CompressorWeights {
  Weight* wkv = nullptr;    // [row width, hidden]
  Weight* wgate = nullptr;  // [row width, hidden]
  Weight* ape = nullptr;    // [ratio * row width]
  Weight* norm = nullptr;   // [width]
};

/// `prefix` ends in a dot: "layers.2.attn.compressor.".
CompressorWeights bind_compressor(WeightBinder& binder, const std::string& prefix,
                                  const CompressorSpec& spec, int64_t hidden);

/// Caches the rows of h and the entries that end with one of them.   h [T, hidden]; rope: of an
/// entry; layer: counted in the compressor's planes
void compress(Ops& ops, const CompressorSpec& spec, const CompressorWeights& w, double eps,
              Rope rope, const StepPlanes& planes, int64_t layer, Tensor h);

}  // namespace hadal
