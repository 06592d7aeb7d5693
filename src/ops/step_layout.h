// StepLayout: where everything that differs from step to step lies, in one flat block of inputs and
// one of outputs.
//
// A step advances many sequences by some rows each. The layout is fixed at load from the limits; a
// step fills the front of each part (engine/step_inputs.h). Tapes refer to parts by offset, so
// nothing in them is patched.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "hadal/chip.h"

namespace hadal {

/// The most rows of each kind that a step may bring, and the widths of the tables.
struct StepLimits {
  int64_t tokens = 0;      ///< T, and U
  int64_t sequences = 0;   ///< S
  int64_t logit_rows = 0;  ///< R
  int64_t entries = 0;     ///< penalty entries of all rows together
  int64_t vocab = 0;
  int64_t hidden = 0;               ///< width of the hidden rows that a draft is made of; 0: none
  bool blocks = false;              ///< drafts are made by blocks of rows (DSpark)
  bool tail = false;                ///< the model has a tail: U rows of its own
  bool adapters = false;            ///< sequences may use adapters
  int64_t extra = 0;                ///< numbers a token row that the model fills itself; 0: none
  int64_t top = 0;                  ///< most likely tokens reported a row
  std::vector<int64_t> max_blocks;  ///< a plane group: blocks of the longest sequence
  uint64_t alignment = 64;          ///< of offsets in inputs, outputs and scratch

  [[nodiscard]] std::array<int64_t, HADAL_DIM_COUNT> dims() const {
    return {1, tokens, sequences, logit_rows, tokens};
  }
};

/// Where each input and output lies. Tensors of space INPUT and OUTPUT, ready to be operands.
struct StepLayout {
  explicit StepLayout(const StepLimits& limits);

  /// The inputs that every step writes anew. A part that is not named here never reaches the
  /// device, but for block tables, `extra`, penalty entries and masks, of which StepInputs sends
  /// what is used.
  [[nodiscard]] std::vector<hadal_tensor> small_inputs() const;

  StepLimits limits;
  // inputs
  hadal_tensor token{}, position{}, row_seq{};  // [T] I32
  std::vector<hadal_tensor> write_from, first;  // a group: [S] I32
  std::vector<hadal_tensor> block_table;        // a group: [S, max blocks] I32
  hadal_tensor adapter{};                       // [S] I32, -1: none
  hadal_tensor draft_row{};                     // [T] I32, of a draft: rows of `hidden`
  hadal_tensor horizon{};  // [T] I32, of a draft's block: the last position that a row sees
  // of a tail: which rows of T it computes, and their positions and sequences
  hadal_tensor tail_row{}, tail_position{}, tail_row_seq{};  // [U] I32
  hadal_tensor extra{};                                      // [T, extra] F32, by Model::fill_extra
  hadal_tensor logit_row{};                                  // [R] I32, indexes the rows of U
  hadal_tensor sample_params{}, sample_seed{}, sample_position{};  // [R, …]
  hadal_tensor entry_start{};                                      // [R, 2] I32
  // Large and seldom used: last, so that a step moves only what it fills.
  hadal_tensor entry{}, entry_bias{};  // [entries, 3] I32, [entries] F32
  hadal_tensor mask{};                 // [R, ceil(V / 32)] U32
  uint64_t input_bytes = 0;
  // outputs
  hadal_tensor logits{};  // [R, V] F32
  // of the main pass, where drafts are made, one a row of U; then, in front, of the draft's rows
  hadal_tensor hidden{};              // [T, hidden] F32
  hadal_tensor base{}, confidence{};  // of blocks: [R, V] F32, their logits; [R, 1] F32
  hadal_tensor sampled{}, logprob{}, top_token{}, top_logprob{};
  uint64_t output_bytes = 0;
};

}  // namespace hadal
