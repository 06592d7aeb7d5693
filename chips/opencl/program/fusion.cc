#include "program/fusion.h"

#include <algorithm>
#include <optional>

#include "contract/operators.h"
#include "ops/launch.h"

namespace hadal::opencl {
namespace {

/// A build of `items` has a loop for each type of weight.
constexpr size_t kMostTypes = 3;
constexpr size_t kMostStrands = 8;

class Matcher {
 public:
  explicit Matcher(const ProgramTape& tape) : tape_(tape) {
    for (const ProgramOp& op : tape.ops) accesses_.push_back(accesses_of(tape, op.op));
  }

  std::vector<Group> match() {
    for (uint32_t i = 0; i < tape_.ops.size(); ++i) place(i);
    for (size_t g = 0; g < groups_.size();) g = delay(g) ? g : g + 1;
    return std::move(groups_);
  }

 private:
  [[nodiscard]] bool depends(uint32_t op, uint32_t on) const {
    for (const Access& a : accesses_[op])
      for (const Access& b : accesses_[on])
        if (meet(a, b)) return true;
    return false;
  }
  [[nodiscard]] bool depends(uint32_t op, const Strand& on) const {
    return std::any_of(on.ops.begin(), on.ops.end(), [&](uint32_t o) { return depends(op, o); });
  }
  [[nodiscard]] bool depends(uint32_t op, const Group& on) const {
    return std::any_of(on.strands.begin(), on.strands.end(),
                       [&](const Strand& s) { return depends(op, s); });
  }
  [[nodiscard]] bool depends(const Strand& strand, const Group& on) const {
    return std::any_of(strand.ops.begin(), strand.ops.end(),
                       [&](uint32_t o) { return depends(o, on); });
  }

  /// A strand of the operator alone, and in what launches it may stand.
  Group alone(uint32_t i) const {
    const hadal_op& op = tape_.ops[i].op;
    Group made;
    Strand& strand = made.strands.emplace_back();
    strand.ops = {i};
    const Pattern* pattern = find_pattern(tape_, op);
    if (!pattern) return made;
    made.flavours = pattern->flavours;
    const hadal_tensor& rows = *tape_.tensor(op, pattern->rows_of);
    strand.row_dim = rows.row_dim;
    strand.rows = rows.extents[0];
    strand.numbers = pattern->numbers(tape_, op);
    strand.heads = pattern->heads ? pattern->heads(tape_, op) : 0;
    if (!fits(made)) made.flavours = kAlone;
    return made;
  }

  [[nodiscard]] bool fits(const Group& group) const {
    const std::set<MemoryKey> memories = memories_of(tape_, group);
    const auto planes = std::count_if(memories.begin(), memories.end(), [](const MemoryKey& key) {
      return key.first == HADAL_SPACE_PLANE;
    });
    return memories.size() <= kMostMemories && static_cast<size_t>(planes) <= kMostPlanes &&
           weight_types_of(tape_, group).size() <= kMostTypes &&
           group.strands.size() <= kMostStrands;
  }

  void place(uint32_t i) {
    const Group own = alone(i);
    size_t first = groups_.size();  // of those that do not stand before it
    while (first > 0 && !depends(i, groups_[first - 1])) --first;
    if (first > 0 && follow(groups_[first - 1], own)) return;
    for (size_t g = first; g < groups_.size(); ++g)
      if (join(groups_[g], own)) return;
    groups_.push_back(own);
  }

  /// The strands of `added` stand beside those of `group`, with which they do not meet.
  bool join(Group& group, const Group& added) const {
    Group both = group;
    both.flavours &= added.flavours;
    both.strands.insert(both.strands.end(), added.strands.begin(), added.strands.end());
    if (both.flavours == kAlone || !fits(both)) return false;
    group = std::move(both);
    return true;
  }

  /// `added`, one operator, follows the strands of `group` on which it depends, which become one.
  bool follow(Group& group, const Group& added) const {
    for (const Flavour flavour : {kItems, kRows}) {
      Group both;
      both.flavours = group.flavours & added.flavours & flavour;
      if (both.flavours == kAlone) continue;
      std::optional<Strand> chain;
      for (const Strand& s : group.strands) {
        if (!depends(added.strands[0].ops[0], s))
          both.strands.push_back(s);
        else if (!chain)
          chain = s;
        else if (!extend(*chain, s, flavour))
          chain->ops.clear();
      }
      if (!chain || chain->ops.empty() || !extend(*chain, added.strands[0], flavour)) continue;
      both.strands.push_back(*chain);
      if (!fits(both)) continue;
      group = std::move(both);
      return true;
    }
    return false;
  }

  /// Puts `more` behind `chain`, if they have the same rows and each work-item, or work-group,
  /// needs nothing that another one makes.
  bool extend(Strand& chain, const Strand& more, Flavour flavour) const {
    if (chain.ops.empty() || chain.row_dim != more.row_dim || chain.rows != more.rows) return false;
    int64_t heads = 1;
    if (flavour == kItems) {
      if (chain.numbers != more.numbers) return false;
    } else {
      if (chain.heads != 0 && more.heads != 0 && chain.heads != more.heads) return false;
      heads = std::max<int64_t>(1, std::max(chain.heads, more.heads));
      if (chain.numbers % heads != 0 || more.numbers % heads != 0) return false;
    }
    for (const uint32_t a : chain.ops)
      for (const uint32_t b : more.ops)
        if (!follows(a, b, flavour, heads)) return false;
    chain.ops.insert(chain.ops.end(), more.ops.begin(), more.ops.end());
    // Of rows all operators have one number of heads: what goes by any shares takes the others'.
    if (flavour == kRows) chain.heads = heads;
    return true;
  }

  [[nodiscard]] bool follows(uint32_t first, uint32_t then, Flavour flavour, int64_t heads) const {
    const auto own = [&](uint32_t i, const Access& x) {
      const Pattern& p = *find_pattern(tape_, tape_.ops[i].op);
      return x.operand < HADAL_MAX_OPERANDS &&
             ((flavour == kItems ? p.own_numbers : p.own_rows) & operand_bit(x.operand)) != 0;
    };
    for (const Access& a : accesses_[first])
      for (const Access& b : accesses_[then]) {
        if (!meet(a, b)) continue;
        if (!own(first, a) || !own(then, b)) return false;
        if (flavour == kItems ? !same_numbers(a, b) : !same_rows(a, b, heads)) return false;
      }
    return true;
  }

  /// Moves a group of one strand into a later one, if nothing between them needs it.
  bool delay(size_t g) {
    const Group own = groups_[g];
    if (own.flavours == kAlone || own.strands.size() > 1) return false;
    for (size_t later = g + 1; later < groups_.size(); ++later) {
      if (depends(own.strands[0], groups_[later])) return false;
      if (!join(groups_[later], own)) continue;
      groups_.erase(groups_.begin() + static_cast<std::ptrdiff_t>(g));
      return true;
    }
    return false;
  }

  const ProgramTape& tape_;
  std::vector<std::vector<Access>> accesses_;
  std::vector<Group> groups_;
};

template <typename Body>
void each_tensor(const ProgramTape& tape, const Group& group, Body body) {
  for (const Strand& strand : group.strands)
    for (const uint32_t i : strand.ops)
      for (uint32_t operand = 0; operand < operand_count_of(tape.ops[i].op.id); ++operand)
        if (const hadal_tensor* t = tape.tensor(tape.ops[i].op, operand))
          body(*t, tape.ops[i].op.id, operand);
}

/// Vectors are read as they are; the others are decoded by type.
bool is_decoded(uint32_t op, uint32_t operand) {
  return op == kOpExperts || contract::operand_use(op, operand) != HADAL_USE_VECTOR;
}

}  // namespace

MemoryKey memory_key(const hadal_tensor& t) {
  if (t.space == HADAL_SPACE_WEIGHT) return {t.space, reinterpret_cast<uintptr_t>(t.weight)};
  return {t.space, t.space == HADAL_SPACE_PLANE ? t.index : 0};
}

std::set<MemoryKey> memories_of(const ProgramTape& tape, const Group& group) {
  std::set<MemoryKey> all;
  each_tensor(tape, group,
              [&](const hadal_tensor& t, uint32_t, uint32_t) { all.insert(memory_key(t)); });
  return all;
}

std::set<int32_t> weight_types_of(const ProgramTape& tape, const Group& group) {
  std::set<int32_t> all;
  each_tensor(tape, group, [&](const hadal_tensor& t, uint32_t op, uint32_t operand) {
    if (t.space == HADAL_SPACE_WEIGHT && is_decoded(op, operand))
      all.insert(weight_of(t.weight).type);
  });
  return all;
}

std::string name_of(const ProgramTape& tape, const Group& group) {
  std::string name;
  for (const Strand& strand : group.strands) {
    std::string own;
    for (const uint32_t i : strand.ops) {
      const uint32_t id = tape.ops[i].op.id;
      own += (own.empty() ? "" : ", ") +
             std::string(id == kOpExperts ? "gated_experts" : contract::op_name(id));
    }
    name += (name.empty() ? "" : " + ") + own;
  }
  return name;
}

std::vector<Group> fuse(const ProgramTape& tape) { return Matcher(tape).match(); }

}  // namespace hadal::opencl
