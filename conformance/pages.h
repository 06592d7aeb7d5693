// Paged caches: sequences, and the block tables, planes and lists of the rows of a step.
#pragma once

#include "kit.h"

namespace hadal::conformance {

/// A sequence of the step: `rows` token rows, the last of them at position `last`.
struct Sequence {
  int64_t last = 0;
  int64_t rows = 1;
  int64_t first = 0;
};

/// What a row's list names.
enum class List : uint8_t {
  kNone,     // there is no list
  kVisible,  // some of what it may see
  kAny,      // some of all entries that the block table could hold
  kSome,     // the one for every third row, the other, nothing at all
  kEmpty     // nothing
};

/// A group of planes, and how entries are numbered in it.
struct Group {
  int64_t slots = 16;
  uint32_t dtype = HADAL_F16;
  int64_t ratio = 1;
  uint32_t window = 0;
  List list = List::kNone;
  int64_t listed = 0;       // the width of LIST
  bool from_start = false;  // FIRST is 0, whatever the sequences say
  int64_t span = 0;         // not 0: compress; a row at the end of `period` sees the last `span`
  int64_t period = 1;
  int64_t block_size = 1;  // entries that a number of LIST stands for
};

/// Block table, lists and planes of a group, for the rows of some sequences.
class Pages {
 public:
  Pages(Random& random, const std::vector<Sequence>& sequences, const Group& group);

  [[nodiscard]] Operand table() const;
  [[nodiscard]] Operand first() const;
  [[nodiscard]] Operand list() const;
  /// One more plane: numbers where some row sees them, and NaN elsewhere.
  Operand plane(int64_t width);
  /// The same, the numbers being those of {-1, 0, 1}, so that sums of products are exact.
  Operand plane_of_signs(int64_t width);

 private:
  void place(int64_t s, const Sequence& sequence);
  /// The entries that a row at `position` sees.
  [[nodiscard]] EntryRange range_of(int64_t position, int64_t first) const;
  /// The next row's list.
  std::vector<int32_t> write_list(const EntryRange& range);
  template <typename Make>
  Operand fill(int64_t width, Make make);

  Random& random_;
  Group group_;
  int64_t count_ = 0;   // sequences
  int64_t each_ = 0;    // blocks that a sequence's table can name
  int64_t blocks_ = 0;  // of the planes
  int64_t rows_ = 0;    // that have their list
  std::vector<int32_t> ids_, table_, first_, list_;
  std::vector<int64_t> visible_;  // slots of the planes that some row sees
};

/// A case with the rows of its sequences; `position` and `row_seq`: operands.
Case rows_case(Random& random, const std::vector<Sequence>& sequences, uint32_t position,
               uint32_t row_seq);

/// Slot of entry `e` of sequence `s`.
int64_t slot_of(const Operand& plane, const Operand& table, int64_t s, int64_t e);

/// Puts another number at `at` of a block table or a list: the case must fail.
void refuse(Case c, uint32_t operand, size_t at, int32_t value, const std::string& name,
            std::vector<Case>& cases);

}  // namespace hadal::conformance
