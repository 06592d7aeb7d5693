// The shapes of operators.inc: "[M, K] or [M, B, K]", "as X", "[(V + 31) / 32]".
#include <algorithm>
#include <string_view>
#include <vector>

#include "contract/check.h"
#include "contract/operators.h"

namespace hadal::contract {
namespace {

/// A name in a shape, and what it stands for in this call. `dim` is the step's row count that
/// multiplies it.
struct Symbol {
  std::string_view name;
  int64_t value = 0;
  uint32_t dim = HADAL_DIM_CONST;
};

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::vector<std::string_view> split(std::string_view text, std::string_view separator) {
  std::vector<std::string_view> parts;
  for (size_t at = 0; (at = text.find(separator)) != std::string_view::npos;
       text.remove_prefix(at + separator.size()))
    parts.push_back(trim(text.substr(0, at)));
  parts.push_back(trim(text));
  return parts;
}

std::vector<std::string_view> extents_of(std::string_view shape) {
  return split(shape.substr(1, shape.size() - 2), ",");
}

bool is_expression(std::string_view item) {
  return item.find_first_of("*/+(") != std::string_view::npos;
}
bool is_number(std::string_view item) {
  return item.find_first_not_of("0123456789") == std::string_view::npos;
}

class ShapeCheck {
 public:
  ShapeCheck(const hadal_op& op, const hadal_tensor* tensors) : op_(op), tensors_(tensors) {
    symbols_.push_back({"HADAL_PARAM_COUNT", HADAL_PARAM_COUNT});
    if (op.id == HADAL_OP_ROPE) symbols_.push_back({"dims", op.attr.rope.dims});
    if (op.id == HADAL_OP_GQA_ATTENTION)
      symbols_.push_back({"kv_heads", op.attr.attention.kv_heads});
    if (op.id == HADAL_OP_SAMPLE) symbols_.push_back({"top", op.attr.sample.top});
    if (op.id == HADAL_OP_LATENT_ATTENTION &&
        tensors[HADAL_LATENT_ATTENTION_TAIL].space == HADAL_SPACE_NONE)
      symbols_.push_back({"Dr", 0});
    if (op.id == HADAL_OP_MOE_SORT)
      symbols_.push_back({"experts", tensors[HADAL_MOE_SORT_OFFSET].extents[0] - 1});
  }

  /// Why the shapes do not fit together; empty if they do.
  std::string run() {
    std::string why;
    for (const bool expressions :
         {false, true})  // an expression may name what a later operand binds
      for (uint32_t i = 0; why.empty() && i < operand_count(op_.id); ++i)
        if (tensors_[i].space != HADAL_SPACE_NONE) why = check(i, expressions);
    return why;
  }

 private:
  std::string check(uint32_t i, bool expressions) {
    const std::string_view shape = operand_shape(op_.id, i);
    if (shape.starts_with("as "))
      return expressions ? std::string() : check_same(i, shape.substr(3));
    const auto variants = split(shape, " or ");
    for (size_t v = 0; v < variants.size(); ++v) {
      const auto items = extents_of(variants[v]);
      if (items.size() != tensors_[i].rank) continue;
      if (variants.size() > 1 && variant_ != kNoVariant && variant_ != v)
        break;  // rank 2 here, rank 3 there
      if (variants.size() > 1) variant_ = v;
      for (uint32_t d = 0; d < items.size(); ++d) {
        std::string why =
            is_expression(items[d]) == expressions ? check_extent(i, d, items[d]) : std::string();
        if (!why.empty()) return why;
      }
      return {};
    }
    return operand(i) + " has rank " + std::to_string(tensors_[i].rank) + ", expected " +
           std::string(shape);
  }

  std::string check_extent(uint32_t i, uint32_t d, std::string_view item) {
    const int64_t found = tensors_[i].extents[d];
    const uint32_t dim = d == 0 ? tensors_[i].row_dim : uint32_t{HADAL_DIM_CONST};
    int64_t expected = found;
    if (is_expression(item)) {
      expected = evaluate(item);
    } else if (is_number(item)) {
      for (expected = 0; !item.empty(); item.remove_prefix(1))
        expected = expected * 10 + (item.front() - '0');
    } else if (const Symbol* known = lookup(item)) {
      expected = known->value;
      if (d == 0 && known->dim != dim)
        return operand(i) + ": " + std::string(item) + " is another row count of the step there";
    } else {
      symbols_.push_back({item, found, dim});
    }
    if (found == expected) return {};
    return operand(i) + ": extent " + std::to_string(d) + " is " + std::to_string(found) + ", " +
           std::string(item) + " is " + std::to_string(expected);
  }

  /// Does the table's name ("OUT") mean operand j?
  bool names(std::string_view name, uint32_t j) const {
    const std::string_view own = operand_name(op_.id, j);
    return std::equal(name.begin(), name.end(), own.begin(), own.end(), [](char a, char b) {
      return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b;
    });
  }

  std::string check_same(uint32_t i, std::string_view as) {
    for (uint32_t j = 0; j < operand_count(op_.id); ++j) {
      if (!names(as, j)) continue;
      const hadal_tensor& a = tensors_[i];
      const hadal_tensor& b = tensors_[j];
      if (a.rank != b.rank || a.row_dim != b.row_dim ||
          !std::equal(a.extents, a.extents + a.rank, b.extents))
        return operand(i) + " must have the shape of " + operand(j);
    }
    return {};
  }

  // Left to right, without precedence: "(V + 31) / 32", "kv_heads * D", "dims / 2".
  int64_t evaluate(std::string_view text) const {
    int64_t value = 0;
    char sign = '+';
    while (!(text = trim(text)).empty()) {
      int64_t term = 0;
      if (text.front() == '(') {
        const size_t close = text.find(')');
        term = evaluate(text.substr(1, close - 1));
        text.remove_prefix(close + 1);
      } else {
        const size_t end = std::min(text.find_first_of("*/+"), text.size());
        std::string_view item = trim(text.substr(0, end));
        text.remove_prefix(end);
        if (const Symbol* known = lookup(item)) term = known->value;
        if (is_number(item))
          for (; !item.empty(); item.remove_prefix(1)) term = term * 10 + (item.front() - '0');
      }
      value = sign == '+'   ? value + term
              : sign == '*' ? value * term
              : term != 0   ? value / term
                            : 0;
      text = trim(text);
      if (text.empty()) break;
      sign = text.front();
      text.remove_prefix(1);
    }
    return value;
  }

  const Symbol* lookup(std::string_view name) const {
    const auto it = std::find_if(symbols_.begin(), symbols_.end(),
                                 [&](const Symbol& s) { return s.name == name; });
    return it == symbols_.end() ? nullptr : &*it;
  }
  std::string operand(uint32_t i) const { return operand_name(op_.id, i); }

  static constexpr size_t kNoVariant = SIZE_MAX;
  const hadal_op& op_;
  const hadal_tensor* tensors_;
  std::vector<Symbol> symbols_;
  size_t variant_ = kNoVariant;
};

}  // namespace

std::string check_shapes(const hadal_op& op, const hadal_tensor* tensors) {
  return ShapeCheck(op, tensors).run();
}

}  // namespace hadal::contract
