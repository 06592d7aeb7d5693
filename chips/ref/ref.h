// The chip `ref`: plain loops, the definition of the contract. What the operators of this folder
// share.
//
// Owns nothing but readability: no tiling, no threads, no instruction sets. Values are read as
// fp32, products and sums are kept in double, results are rounded once to their dtype. Every sum
// runs in an order that depends on its length alone, so the bits of a row never depend on its
// neighbours (row_invariant). Weights are decoded row by row, once a call. Its kernel tables are
// one for each class of numerics (rounding.h). It refuses what breaks the contract (an index out of
// range, an operand outside its memory) with HADAL_INVALID and a text; what can be told from shapes
// and types is contract::check_operands' alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/host_chip.h"
#include "hadal/chip.h"
#include "rounding.h"

namespace hadal::ref {

/// A run of weight rows, readable in place.
struct Piece {
  int64_t first_row = 0;
  int64_t rows = 0;
  const std::byte* data = nullptr;  ///< any alignment
  int64_t row_stride = 0;
  const std::byte* scales =
      nullptr;  ///< null: none; one row of them for each scale_block_rows rows of this piece
  int64_t scale_row_stride = 0;
};

/// What a hadal_weight is. Rows of all matrices of a batch are numbered through: row = matrix *
/// desc.rows + row in it.
struct Weight {
  hadal_weight_desc desc{};
  std::vector<Piece> pieces;
  std::vector<std::unique_ptr<std::byte[]>>
      copies;  ///< where the pieces lie if the source is not kept

  /// Decodes one row of desc.cols values.
  void decode_row(int64_t row, float* out) const;
};

inline const Weight& weight(const hadal_weight* w) { return *reinterpret_cast<const Weight*>(w); }

hadal_status weight_bytes(hadal_device*, const hadal_weight_desc* desc, uint64_t* bytes,
                          hadal_error* error);
hadal_status weight_create(hadal_device*, const hadal_weight_desc* desc, const hadal_piece* pieces,
                           uint32_t piece_count, hadal_weight** out, hadal_error* error);
void weight_destroy(hadal_weight* w);

/// One operator in one step: its operands and where to tell what is wrong.
struct Call {
  const hadal_op* op = nullptr;
  Rounding rounding;  ///< of the kernel table
  host_chip::View operands[HADAL_MAX_OPERANDS];
  hadal_error* error = nullptr;

  [[nodiscard]] const host_chip::View& operator[](size_t i) const { return operands[i]; }
  [[nodiscard]] hadal_status invalid(const std::string& text) const;
  /// "token[3] = 70000 is outside [0, 50000)"
  [[nodiscard]] hadal_status outside(size_t operand, int64_t index, int64_t value,
                                     int64_t end) const;
};

/// A vector operand (norm weight, bias, inverse frequencies) as fp32 values; empty if it is absent.
std::vector<float> read_vector(const host_chip::View& v);

/// One number of a plane or of a convert operand: F32, F16 or BF16.
float load(const std::byte* data, hadal_dtype dtype, int64_t index);
void store(std::byte* data, hadal_dtype dtype, int64_t index, float value);

/// Sum of products in double: eight strided partial sums, then a fixed tree. The order depends on
/// `n` alone.
double dot(const double* a, const double* b, int64_t n);

/// silu(gate) * up after the clamp (0: none), rounded once.
float swiglu_value(float gate, float up, float clamp, float row_weight);

/// Where position `p` of a sequence lies: its block in the plane; -1 if none is mapped.
struct Slot {
  int64_t block = -1;
  int64_t slot = 0;
};

// The operators. Each takes what check_operands has let through.
hadal_status embed(const Call& call);
hadal_status matmul(const Call& call);
hadal_status gated_matmul(const Call& call);
hadal_status norm(const Call& call);
hadal_status rope(const Call& call);
hadal_status swiglu(const Call& call);
hadal_status add(const Call& call);
hadal_status kv_write(const Call& call);
hadal_status gqa_attention(const Call& call);
hadal_status gather_rows(const Call& call);
hadal_status copy_blocks(const Call& call);
hadal_status convert(const Call& call);
hadal_status sample(const Call& call);
hadal_status router(const Call& call);
hadal_status moe_sort(const Call& call);
hadal_status grouped_matmul(const Call& call);
hadal_status moe_combine(const Call& call);
hadal_status latent_attention(const Call& call);
hadal_status index_topk(const Call& call);
hadal_status index_blocks(const Call& call);
hadal_status compress(const Call& call);
hadal_status hc_pre(const Call& call);
hadal_status hc_post(const Call& call);
hadal_status engram_gate(const Call& call);
hadal_status lora_add(const Call& call);

}  // namespace hadal::ref
