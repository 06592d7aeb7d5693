// What a tiny model chooses, experts, entries and blocks, and whether rounding explains it.
//
// Where two candidates are nearly equal any rounding may choose the other one, and then all that
// comes after differs by far more than rounding moves it. So a chip is judged in two parts. Its
// choices are read, which is why they are step outputs of these models, and ref is made to follow
// them, exactly as well as in the classes: the two rules of whole models then hold for every row.
// And each choice that is not exact ref's own must be explained: it must come out if the scores of
// candidates move against each other by six standard deviations of what the classes move them by,
// as measured between the two runs of ref. Used by tiny_model.cc and oracle.cc alone.
#pragma once

#include <array>

#include "kit.h"

namespace hadal::conformance {

/// Expert, entry or block numbers of a row, in the order of the operator.
using Choice = std::vector<int32_t>;

/// By operator that chooses (in the order of the tape), sequence and position.
template <typename T>
class ByChoice {
 public:
  T& at(size_t op, int32_t sequence, int32_t position) {
    if (rows_.size() <= op) rows_.resize(op + 1);
    auto& row = rows_[op][static_cast<size_t>(sequence)];
    if (row.size() <= static_cast<size_t>(position)) row.resize(static_cast<size_t>(position) + 1);
    return row[static_cast<size_t>(position)];
  }
  /// Null: there is none.
  [[nodiscard]] const T* find(size_t op, int32_t sequence, int32_t position) const {
    if (op >= rows_.size()) return nullptr;
    const auto& row = rows_[op][static_cast<size_t>(sequence)];
    return static_cast<size_t>(position) < row.size() ? &row[static_cast<size_t>(position)]
                                                      : nullptr;
  }
  /// Calls visit(op, sequence, position, value) for all.
  template <typename Visit>
  void each(Visit visit) const {
    for (size_t op = 0; op < rows_.size(); ++op)
      for (size_t s = 0; s < 2; ++s)
        for (size_t p = 0; p < rows_[op][s].size(); ++p) visit(op, s, p, rows_[op][s][p]);
  }
  bool operator==(const ByChoice&) const = default;

 private:
  std::vector<std::array<std::vector<T>, 2>> rows_;
};
using Choices = ByChoice<Choice>;

/// What ref had before it when it chose: logits of experts, else scores.
struct Candidates {
  std::vector<float> scores;  ///< NaN: cannot be chosen
  int32_t always = -1;        ///< of blocks: the one that is chosen whatever its score
  Choice own;                 ///< what ref itself chose
};

/// An operator that chooses.
struct Chooser {
  hadal_op op{};
  std::vector<float> bias;  ///< of a router
  int64_t fan = 0;          ///< numbers a row
};

/// One step's rows of an operand, dense, as the host reads them.
struct RowView {
  const std::byte* bytes = nullptr;  ///< of row 0
  const hadal_tensor* tensor = nullptr;
  [[nodiscard]] float number(int64_t row, int64_t middle, int64_t column) const;
};

/// The scores of all entries that a row of index_topk or index_blocks sees; of the latter by block.
struct IndexRow {
  RowView q, weight;
  int64_t row = 0, position = 0;
  const Choice* candidates = nullptr;  ///< blocks that are searched; null: all
  /// The key of an entry.
  std::function<std::vector<float>(int64_t entry)> key;
};
Candidates index_candidates(const hadal_op& op, const IndexRow& row);

/// The weights of experts that were chosen otherwise, as ref would give them.   logits: of the row
std::vector<float> router_weights(const Chooser& router, const std::vector<float>& logits,
                                  const Choice& choice, const Device& ref);

/// Why rounding does not explain a chip's choices, or nothing. exact, classed: of ref, following
/// them.   differ: choices that are not exact ref's own
std::string judge_choices(const std::vector<Chooser>& choosers, const Choices& found,
                          const ByChoice<Candidates>& exact, const ByChoice<Candidates>& classed,
                          const Device& ref, int64_t& differ);

}  // namespace hadal::conformance
