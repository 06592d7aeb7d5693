// What a written tensor is made of: its name, its shape, and where its numbers come from.
//
// A folder is read through its model's weight slots, so that experts are stacked, block scales
// found and kv_b split in the one place that knows how; a GGUF tensor by tensor as it is.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/names.h"
#include "models/model.h"
#include "weights/convert.h"

namespace hadal::quantize {

struct SourceTensor {
  std::string name;            ///< in the GGUF: "blk.0.attn_q.weight"
  std::vector<int64_t> shape;  ///< outermost first
  WeightSource weight;
  /// Heads whose rotary halves lie one behind the other and are written as pairs: llama's order.
  int64_t paired_heads = 0;
  std::vector<float> values;  ///< of a tensor that is computed, not stored

  [[nodiscard]] int64_t columns() const { return shape.back(); }
  [[nodiscard]] int64_t rows() const;
  /// The rows lie in the source as they will be written, where its type is kept.
  [[nodiscard]] bool plain() const;
};

/// The tensors of a folder's bound model, in the order of its slots. Errors: a tensor that a GGUF
/// of this architecture has no name for.
Result<std::vector<SourceTensor>> folder_tensors(const Checkpoint& checkpoint, Model& model,
                                                 const Architecture& architecture);

/// The tensors of a GGUF in file order.
std::vector<SourceTensor> gguf_tensors(const Checkpoint& checkpoint);

/// Reads rows of one tensor; one reader a thread.
class RowReader {
 public:
  explicit RowReader(const SourceTensor& tensor);
  /// Row `row` as it will be written, decoded, to out[0 … columns()). False if its type holds no
  /// numbers.
  bool read(int64_t row, float* out);
  /// The bytes of a row of a plain() tensor.
  [[nodiscard]] std::span<const std::byte> stored(int64_t row) const;
  /// The bytes of the block scales of that row.
  [[nodiscard]] std::span<const std::byte> stored_scales(int64_t row) const;

 private:
  struct Place {
    const WeightSource::Piece* piece;
    int64_t row;
  };
  [[nodiscard]] Place place_of(int64_t row) const;

  const SourceTensor& tensor_;
  std::vector<int64_t> ends_;  // of the pieces, in rows
  std::vector<float> turned_;  // the matrix that turned_matrix_ names, as stored
  int64_t turned_matrix_ = -1;
};

}  // namespace hadal::quantize
