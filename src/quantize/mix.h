// Which type each tensor of a file gets: the mixes that the names Q4_K_M, Q5_K_M, … stand for.
//
// The head, or the embedding that serves as head, is kept finer, and in the _M mixes the values of
// attention and the down projections of about half of the layers: the first and last eighth and
// every third between. Facts of the field's files (llama.cpp's quantiser makes the same choice).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace hadal::quantize {

struct Mix {
  std::string_view name;  ///< as on the command line: "q4_k_m"
  DType base;
  bool more_bits;      ///< finer values and down projections in half of the layers
  uint32_t file_type;  ///< general.file_type
};

std::span<const Mix> mixes();
const Mix* find_mix(std::string_view name);

/// What the choice depends on beside the tensor.
struct ModelShape {
  int64_t layers = 0;
  bool tied = false;  ///< the embedding is the head too
};

/// N of "blk.N.…", -1 outside of the layers.
int64_t layer_of(std::string_view name);

/// The type in which tensor `name` (a GGUF's name) is written. `source`: what holds it now.
DType written_type(const Mix& mix, const ModelShape& model, std::string_view name,
                   std::span<const int64_t> shape, DType source);

/// A tensor of this type has lost quality already; FP8, FP4 and what GGUF calls MXFP4 are what
/// models are published in.
bool is_requantised(DType source, DType written);

}  // namespace hadal::quantize
