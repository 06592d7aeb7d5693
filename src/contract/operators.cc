#include "contract/operators.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "base/dtype.h"

namespace hadal::contract {
namespace {

struct OperandRow {
  uint32_t op;
  const char* name;
  hadal_role role;
  std::string_view shape, dtypes, text;
};
struct OpRow {
  uint32_t id;
  const char* name;
};

constexpr OpRow kOps[] = {
#define HADAL_OP(name, code, level, formula, detail) {HADAL_OP_##name, #name},
#define HADAL_OPERAND(op, name, role, shape, dtypes, text)
#include "hadal/operators.inc"
#undef HADAL_OP
#undef HADAL_OPERAND
};
constexpr OperandRow kOperands[] = {
#define HADAL_OP(name, code, level, formula, detail)
#define HADAL_OPERAND(op, name, role, shape, dtypes, text) \
  {HADAL_OP_##op, #name, HADAL_ROLE_##role, shape, dtypes, text},
#include "hadal/operators.inc"
#undef HADAL_OP
#undef HADAL_OPERAND
};

static_assert(std::is_sorted(std::begin(kOps), std::end(kOps),
                             [](const OpRow& a, const OpRow& b) { return a.id < b.id; }),
              "operators.inc has the operators in the order of their codes, a new one at the end");

constexpr size_t kMaxOpId = 64;

// Lower-case copies of the names, made at compile time.
struct Name {
  char text[24];
};
constexpr Name lower(const char* from) {
  Name name{};
  for (size_t i = 0; from[i] != '\0' && i + 1 < sizeof name.text; ++i)
    name.text[i] =
        from[i] >= 'A' && from[i] <= 'Z' ? static_cast<char>(from[i] - 'A' + 'a') : from[i];
  return name;
}
constexpr auto kOpNames = [] {
  std::array<Name, kMaxOpId> names{};
  for (const OpRow& row : kOps) names[row.id] = lower(row.name);
  return names;
}();
constexpr auto kOperandNames = [] {
  std::array<Name, std::size(kOperands)> names{};
  for (size_t i = 0; i < names.size(); ++i) names[i] = lower(kOperands[i].name);
  return names;
}();
// First row of each operator in kOperands.
constexpr auto kFirst = [] {
  std::array<uint32_t, kMaxOpId + 1> first{};
  for (uint32_t id = 0; id <= kMaxOpId; ++id) {
    uint32_t i = 0;
    while (i < std::size(kOperands) && kOperands[i].op < id) ++i;
    first[id] = i;
  }
  return first;
}();

const OperandRow* row_of(uint32_t id, uint32_t operand) {
  return operand < operand_count(id) ? &kOperands[kFirst[id] + operand] : nullptr;
}

}  // namespace

const char* op_name(uint32_t id) {
  return id < kMaxOpId && kOpNames[id].text[0] ? kOpNames[id].text : "?";
}

uint32_t operand_count(uint32_t id) { return id < kMaxOpId ? kFirst[id + 1] - kFirst[id] : 0; }

const char* operand_name(uint32_t id, uint32_t operand) {
  return operand < operand_count(id) ? kOperandNames[kFirst[id] + operand].text : "?";
}

hadal_role operand_role(uint32_t id, uint32_t operand) {
  const OperandRow* row = row_of(id, operand);
  return row ? row->role : HADAL_ROLE_IN;
}

std::string_view operand_shape(uint32_t id, uint32_t operand) {
  const OperandRow* row = row_of(id, operand);
  return row ? row->shape : std::string_view();
}

std::string_view operand_dtypes(uint32_t id, uint32_t operand) {
  const OperandRow* row = row_of(id, operand);
  return row ? row->dtypes : std::string_view();
}

uint32_t operand_use(uint32_t id, uint32_t operand) {
  const OperandRow* row = row_of(id, operand);
  if (!row || !is_weight(row->role)) return 0;
  if (row->text.find("use: gather") != std::string_view::npos) return HADAL_USE_GATHER;
  return row->text.find("use: matmul") != std::string_view::npos ? HADAL_USE_MATMUL
                                                                 : HADAL_USE_VECTOR;
}

std::string numerics_name(uint32_t numerics, uint32_t block) {
  switch (numerics) {
    case HADAL_NUMERICS_UNSAID:
      return "not said";
    case HADAL_NUMERICS_EXACT:
      return "exact";
    case HADAL_NUMERICS_BLOCK8:
      return "block8 (" + std::to_string(block) + ")";
    case HADAL_NUMERICS_HALF:
      return "half";
    case HADAL_NUMERICS_FP8:
      return "fp8";
    case HADAL_NUMERICS_ROW8:
      return "row8";
    default:
      return "class " + std::to_string(numerics);
  }
}

std::string reference_table(uint32_t numerics, uint32_t block) {
  switch (numerics) {
    case HADAL_NUMERICS_BLOCK8:
      return block == 256 ? "int8-256" : "int8";
    case HADAL_NUMERICS_HALF:
      return "half";
    case HADAL_NUMERICS_FP8:
      return "fp8";
    case HADAL_NUMERICS_ROW8:
      return "row8";
    default:
      return "ref";
  }
}

std::string describe(const hadal_op& op, const hadal_tensor* tensors) {
  std::string text = std::string(op_name(op.id)) + "(";
  bool first = true;
  for (uint32_t i = 0; i < operand_count(op.id); ++i) {
    const hadal_tensor& t = tensors[i];
    if (!present(t)) continue;
    if (!first) text += ", ";
    first = false;
    text += std::string(operand_name(op.id, i)) + " [";
    for (uint32_t d = 0; d < t.rank && d < HADAL_MAX_RANK; ++d)
      text += (d ? ", " : "") + std::to_string(t.extents[d]);
    text += "] " + std::string(dtype_name(static_cast<DType>(t.dtype)));
  }
  return text + ")";
}

}  // namespace hadal::contract
