#include "base/host_chip.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "base/dtype.h"

namespace hadal::host_chip {
namespace {

struct OperandRow {
  uint32_t op;
  const char* name;
  hadal_role role;
};
struct OpRow {
  uint32_t id;
  const char* name;
};

constexpr OpRow kOps[] = {
#define HADAL_OP(name, code, level, formula, detail) {HADAL_OP_##name, #name},
#define HADAL_OPERAND(op, name, role, shape, dtypes, text)
#define HADAL_OP_END(op)
#define HADAL_OP_COST(op, flops, bytes)
#include "hadal/ops_table.inc"
#undef HADAL_OP
#undef HADAL_OPERAND
};
constexpr OperandRow kOperands[] = {
#define HADAL_OP(name, code, level, formula, detail)
#define HADAL_OPERAND(op, name, role, shape, dtypes, text) {HADAL_OP_##op, #name, HADAL_ROLE_##role},
#include "hadal/ops_table.inc"
#undef HADAL_OP
#undef HADAL_OPERAND
#undef HADAL_OP_END
#undef HADAL_OP_COST
};

constexpr size_t kMaxOpId = 64;

// Lower-case copies of the names, made at compile time.
struct Name {
  char text[24];
};
constexpr Name lower(const char* from) {
  Name name{};
  for (size_t i = 0; from[i] != '\0' && i + 1 < sizeof name.text; ++i)
    name.text[i] = from[i] >= 'A' && from[i] <= 'Z' ? static_cast<char>(from[i] - 'A' + 'a') : from[i];
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

bool in_range(const Memory& m, uint64_t offset, uint64_t bytes) { return offset <= m.bytes && bytes <= m.bytes - offset; }

hadal_status out_of_range(hadal_error* error, const char* what, const Memory& m, uint64_t offset, uint64_t bytes) {
  return report(error, HADAL_INVALID, std::string(what) + ": bytes " + std::to_string(offset) + " + " + std::to_string(bytes) +
                                          " lie outside a memory of " + std::to_string(m.bytes));
}

hadal_status mem_alloc(hadal_device*, uint64_t bytes, hadal_memory** out, hadal_error* error) {
  *out = nullptr;
  auto* m = new (std::nothrow) Memory;
  void* data = MAP_FAILED;
  const uint64_t size = std::max<uint64_t>(bytes, 64);
  if (m) data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    delete m;
    return report(error, HADAL_OUT_OF_MEMORY, "no " + std::to_string(bytes) + " bytes of memory left");
  }
  if (size >= (uint64_t{4} << 20)) ::madvise(data, size, MADV_HUGEPAGE);
  *m = {static_cast<std::byte*>(data), size, true};
  *out = reinterpret_cast<hadal_memory*>(m);
  return HADAL_OK;
}

hadal_status mem_import(hadal_device*, const void* data, uint64_t bytes, hadal_memory** out, hadal_error* error) {
  auto* m = new (std::nothrow) Memory;
  if (!m) return report(error, HADAL_OUT_OF_MEMORY, "no memory left for a handle");
  *m = {static_cast<std::byte*>(const_cast<void*>(data)), bytes, false};
  *out = reinterpret_cast<hadal_memory*>(m);
  return HADAL_OK;
}

void mem_free(hadal_memory* handle) {
  Memory* m = memory(handle);
  if (!m) return;
  if (m->owned) ::munmap(m->data, m->bytes);
  delete m;
}

void* mem_host(hadal_memory* handle) { return memory(handle)->data; }

hadal_status copy_in(hadal_queue*, hadal_memory* to, uint64_t offset, const void* from, uint64_t bytes, hadal_error* error) {
  if (!in_range(*memory(to), offset, bytes)) return out_of_range(error, "copy_in", *memory(to), offset, bytes);
  if (bytes != 0) std::memcpy(memory(to)->data + offset, from, bytes);
  return HADAL_OK;
}

hadal_status copy_out(hadal_queue*, void* to, hadal_memory* from, uint64_t offset, uint64_t bytes, hadal_error* error) {
  if (!in_range(*memory(from), offset, bytes)) return out_of_range(error, "copy_out", *memory(from), offset, bytes);
  if (bytes != 0) std::memcpy(to, memory(from)->data + offset, bytes);
  return HADAL_OK;
}

hadal_status copy(hadal_queue*, hadal_memory* to, uint64_t to_offset, hadal_memory* from, uint64_t from_offset, uint64_t bytes,
                  hadal_error* error) {
  if (!in_range(*memory(to), to_offset, bytes)) return out_of_range(error, "copy", *memory(to), to_offset, bytes);
  if (!in_range(*memory(from), from_offset, bytes)) return out_of_range(error, "copy", *memory(from), from_offset, bytes);
  if (bytes != 0) std::memmove(memory(to)->data + to_offset, memory(from)->data + from_offset, bytes);
  return HADAL_OK;
}

hadal_status fill(hadal_queue*, hadal_memory* to, uint64_t offset, uint64_t bytes, uint8_t value, hadal_error* error) {
  if (!in_range(*memory(to), offset, bytes)) return out_of_range(error, "fill", *memory(to), offset, bytes);
  if (bytes != 0) std::memset(memory(to)->data + offset, value, bytes);
  return HADAL_OK;
}

}  // namespace

hadal_status report(hadal_error* error, hadal_status status, const std::string& text) {
  if (error && error->size > offsetof(hadal_error, text)) {
    const size_t room = std::min<size_t>(error->size, sizeof(hadal_error)) - offsetof(hadal_error, text);
    const size_t n = std::min(room - 1, text.size());
    std::memcpy(error->text, text.data(), n);
    error->text[n] = '\0';
  }
  return status;
}

void fill_memory_functions(hadal_chip& chip) {
  chip.mem_alloc = mem_alloc;
  chip.mem_import = mem_import;
  chip.mem_free = mem_free;
  chip.mem_host = mem_host;
  chip.copy_in = copy_in;
  chip.copy_out = copy_out;
  chip.copy = copy;
  chip.fill = fill;
}

View view(const hadal_tape& tape, int32_t index, const hadal_step& step) {
  View v;
  if (index < 0) return v;
  const hadal_tensor& t = tape.tensors[index];
  if (t.space == HADAL_SPACE_NONE) return v;
  v.dtype = static_cast<hadal_dtype>(t.dtype);
  v.rank = t.rank;
  for (int i = 0; i < HADAL_MAX_RANK; ++i) {
    v.extents[i] = t.extents[i];
    v.strides[i] = t.strides[i];
  }
  v.extents[0] = t.extents[0] * step.rows[t.row_dim];
  v.weight = t.weight;
  hadal_memory* base = nullptr;
  switch (t.space) {
    case HADAL_SPACE_SCRATCH: base = step.scratch; break;
    case HADAL_SPACE_INPUT: base = step.inputs; break;
    case HADAL_SPACE_OUTPUT: base = step.outputs; break;
    case HADAL_SPACE_PLANE: base = step.planes[t.index]; break;
    default: break;
  }
  if (base) v.data = memory(base)->data + t.offset;
  return v;
}

const char* op_name(uint32_t id) { return id < kMaxOpId && kOpNames[id].text[0] ? kOpNames[id].text : "?"; }

uint32_t operand_count(uint32_t id) { return id < kMaxOpId ? kFirst[id + 1] - kFirst[id] : 0; }

const char* operand_name(uint32_t id, uint32_t operand) {
  return operand < operand_count(id) ? kOperandNames[kFirst[id] + operand].text : "?";
}

hadal_role operand_role(uint32_t id, uint32_t operand) {
  return operand < operand_count(id) ? kOperands[kFirst[id] + operand].role : HADAL_ROLE_IN;
}

std::string describe(const hadal_op& op, const hadal_tensor* const* tensors) {
  std::string text = std::string(op_name(op.id)) + "(";
  bool first = true;
  for (uint32_t i = 0; i < operand_count(op.id); ++i) {
    const hadal_tensor* t = tensors[i];
    if (!t || t->space == HADAL_SPACE_NONE) continue;
    if (!first) text += ", ";
    first = false;
    text += std::string(operand_name(op.id, i)) + " [";
    for (uint32_t d = 0; d < t->rank && d < HADAL_MAX_RANK; ++d) text += (d ? ", " : "") + std::to_string(t->extents[d]);
    text += "] " + std::string(dtype_name(static_cast<DType>(t->dtype)));
  }
  return text + ")";
}

hadal_status check_operands(const hadal_op& op, const hadal_tensor* tensors, hadal_error* error) {
  const auto refuse = [&](const std::string& why) {
    const hadal_tensor* pointers[HADAL_MAX_OPERANDS] = {};
    for (uint32_t i = 0; i < operand_count(op.id); ++i) pointers[i] = &tensors[i];
    return report(error, HADAL_INVALID, describe(op, pointers) + ": " + why);
  };
  const uint32_t n = operand_count(op.id);
  if (n == 0) return report(error, HADAL_UNSUPPORTED, "operator " + std::to_string(op.id) + " is unknown to this chip");
  for (uint32_t i = 0; i < n; ++i) {
    const hadal_role role = operand_role(op.id, i);
    const hadal_tensor& t = tensors[i];
    const bool optional = role == HADAL_ROLE_OPT_IN || role == HADAL_ROLE_OPT_INOUT || role == HADAL_ROLE_OPT_WEIGHT;
    const std::string name = operand_name(op.id, i);
    if (t.space == HADAL_SPACE_NONE) {
      if (!optional) return refuse(name + " is missing");
      continue;
    }
    const bool weight = role == HADAL_ROLE_WEIGHT || role == HADAL_ROLE_OPT_WEIGHT;
    if (weight != (t.space == HADAL_SPACE_WEIGHT)) return refuse(name + (weight ? " must be a weight" : " must not be a weight"));
    if (t.rank < 1 || t.rank > HADAL_MAX_RANK) return refuse(name + " has rank " + std::to_string(t.rank));
    if (!dtype_info(static_cast<DType>(t.dtype))) return refuse(name + " has an unknown dtype");
    for (uint32_t d = 0; d < t.rank; ++d)
      if (t.extents[d] < 0) return refuse(name + " has a negative extent");
    if (!weight && t.strides[t.rank - 1] != dtype_info(static_cast<DType>(t.dtype))->block_bytes)
      return refuse(name + ": the innermost extent must be contiguous");
  }
  return HADAL_OK;
}

}  // namespace hadal::host_chip
