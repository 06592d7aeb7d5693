// StepInputs: the host's copy of a step's inputs, and which of its bytes the device lacks.
//
// Most parts are written anew each step, to their used front. Block tables stay on the device: each
// sequence keeps its row while it runs, and only entries that changed travel.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "ops/step_layout.h"
#include "ops/tensor.h"

namespace hadal {

class StepInputs {
 public:
  explicit StepInputs(const StepLayout& layout);

  /// The beginning of a part, to be filled.
  template <typename T>
  T* at(const Tensor& part) {
    return reinterpret_cast<T*>(bytes_.data() + part.offset);
  }
  template <typename T>
  const T* at(const Tensor& part) const {
    return reinterpret_cast<const T*>(bytes_.data() + part.offset);
  }
  /// All of the host's copy, laid out as the layout says.
  [[nodiscard]] const std::byte* data() const { return bytes_.data(); }
  /// The block table of a sequence slot in one group; what follows the blocks is -1.
  void set_blocks(size_t group, int64_t slot, std::span<const int32_t> blocks);
  /// A penalty entry; the scheduler has seen to it that there is room.
  void add_entry(int32_t token, int32_t in_prompt, int32_t in_output, float bias);
  [[nodiscard]] int64_t entries() const { return entries_; }

  /// Forgets the last step's rows, entries and masks.
  void clear();

  /// Puts rows of no sequence (-1, all else 0) behind those of the step, up to so many of T and of
  /// U, for devices that ask for certain counts (hadal_device_info.row_buckets). `rows` stays.
  void fill_up(int64_t tokens, int64_t tail);

  std::array<int64_t, HADAL_DIM_COUNT> rows{1, 0, 0, 0, 0};
  bool masked = false;  ///< rows of the mask are filled

  using Range = std::pair<uint64_t, std::span<const std::byte>>;  ///< offset, bytes
  /// What must be copied before the step runs, in ascending order, neighbours joined.
  [[nodiscard]] std::vector<Range> changed() const;
  /// The device has all of changed().
  void copied() { tables_.clear(); }
  /// The queue failed, so that copies into the device may be lost: block tables travel whole again.
  void lost();

 private:
  const StepLayout& layout_;
  std::vector<hadal_tensor> small_;  // parts that every step writes anew
  std::vector<std::byte> bytes_;
  std::vector<std::vector<int64_t>> filled_;           // a group and slot: entries that are not -1
  std::vector<std::pair<uint64_t, uint64_t>> tables_;  // changed bytes: begin, end
  int64_t entries_ = 0;
  std::array<int64_t, HADAL_DIM_COUNT>
      filled_rows_{};  // what changed() sends where it exceeds rows
};

}  // namespace hadal
