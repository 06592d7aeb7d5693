#include "base/host_chip.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <iterator>
#include <new>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace hadal::host_chip {
namespace {

struct OperandRow {
  uint32_t op;
  const char* name;
  hadal_role role;
  std::string_view shape;
  std::string_view dtypes;
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
#define HADAL_OPERAND(op, name, role, shape, dtypes, text) \
  {HADAL_OP_##op, #name, HADAL_ROLE_##role, shape, dtypes},
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

bool in_range(const Memory& m, uint64_t offset, uint64_t bytes) {
  return offset <= m.bytes && bytes <= m.bytes - offset;
}

hadal_status out_of_range(hadal_error* error, const char* what, const Memory& m, uint64_t offset,
                          uint64_t bytes) {
  return report(error, HADAL_INVALID,
                std::string(what) + ": bytes " + std::to_string(offset) + " + " +
                    std::to_string(bytes) + " lie outside a memory of " + std::to_string(m.bytes));
}

hadal_status mem_alloc(hadal_device*, uint64_t bytes, hadal_memory** out, hadal_error* error) {
  *out = nullptr;
  auto* m = new (std::nothrow) Memory;
  void* data = MAP_FAILED;
  const uint64_t size = std::max<uint64_t>(bytes, 64);
  if (m)
    data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    delete m;
    return report(error, HADAL_OUT_OF_MEMORY,
                  "no " + std::to_string(bytes) + " bytes of memory left");
  }
  if (size >= (uint64_t{4} << 20)) ::madvise(data, size, MADV_HUGEPAGE);
  *m = {static_cast<std::byte*>(data), size, true};
  *out = reinterpret_cast<hadal_memory*>(m);
  return HADAL_OK;
}

hadal_status mem_import(hadal_device*, const void* data, uint64_t bytes, hadal_memory** out,
                        hadal_error* error) {
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

hadal_status copy_in(hadal_queue*, hadal_memory* to, uint64_t offset, const void* from,
                     uint64_t bytes, hadal_error* error) {
  if (!in_range(*memory(to), offset, bytes))
    return out_of_range(error, "copy_in", *memory(to), offset, bytes);
  if (bytes != 0) std::memcpy(memory(to)->data + offset, from, bytes);
  return HADAL_OK;
}

hadal_status copy_out(hadal_queue*, void* to, hadal_memory* from, uint64_t offset, uint64_t bytes,
                      hadal_error* error) {
  if (!in_range(*memory(from), offset, bytes))
    return out_of_range(error, "copy_out", *memory(from), offset, bytes);
  if (bytes != 0) std::memcpy(to, memory(from)->data + offset, bytes);
  return HADAL_OK;
}

hadal_status copy(hadal_queue*, hadal_memory* to, uint64_t to_offset, hadal_memory* from,
                  uint64_t from_offset, uint64_t bytes, hadal_error* error) {
  if (!in_range(*memory(to), to_offset, bytes))
    return out_of_range(error, "copy", *memory(to), to_offset, bytes);
  if (!in_range(*memory(from), from_offset, bytes))
    return out_of_range(error, "copy", *memory(from), from_offset, bytes);
  if (bytes != 0)
    std::memmove(memory(to)->data + to_offset, memory(from)->data + from_offset, bytes);
  return HADAL_OK;
}

hadal_status fill(hadal_queue*, hadal_memory* to, uint64_t offset, uint64_t bytes, uint8_t value,
                  hadal_error* error) {
  if (!in_range(*memory(to), offset, bytes))
    return out_of_range(error, "fill", *memory(to), offset, bytes);
  if (bytes != 0) std::memset(memory(to)->data + offset, value, bytes);
  return HADAL_OK;
}

}  // namespace

hadal_status report(hadal_error* error, hadal_status status, const std::string& text) {
  if (error && error->size > offsetof(hadal_error, text)) {
    const size_t room =
        std::min<size_t>(error->size, sizeof(hadal_error)) - offsetof(hadal_error, text);
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

hadal_memory* memory_of(const hadal_tensor& t, const hadal_step& step) {
  switch (t.space) {
    case HADAL_SPACE_SCRATCH:
      return step.scratch;
    case HADAL_SPACE_INPUT:
      return step.inputs;
    case HADAL_SPACE_OUTPUT:
      return step.outputs;
    case HADAL_SPACE_PLANE:
      return t.index < step.plane_count ? step.planes[t.index] : nullptr;
    default:
      return nullptr;
  }
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
  hadal_memory* base = memory_of(t, step);
  if (base) v.data = memory(base)->data + t.offset;
  // A plane's memory may hold fewer blocks than its limit.
  if (base && t.space == HADAL_SPACE_PLANE && t.strides[0] > 0)
    v.extents[0] =
        std::min(t.extents[0], static_cast<int64_t>((memory(base)->bytes - t.offset) /
                                                    static_cast<uint64_t>(t.strides[0])));
  return v;
}

const char* op_name(uint32_t id) {
  return id < kMaxOpId && kOpNames[id].text[0] ? kOpNames[id].text : "?";
}

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
    for (uint32_t d = 0; d < t->rank && d < HADAL_MAX_RANK; ++d)
      text += (d ? ", " : "") + std::to_string(t->extents[d]);
    text += "] " + std::string(dtype_name(static_cast<DType>(t->dtype)));
  }
  return text + ")";
}

namespace {

// ---- the shapes of ops_table.inc: "[M, K] or [M, B, K]", "as X", "[(V + 31) / 32]"

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
    const std::string_view shape = kOperands[kFirst[op_.id] + i].shape;
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

  std::string check_same(uint32_t i, std::string_view as) {
    for (uint32_t j = 0; j < operand_count(op_.id); ++j) {
      if (as != kOperands[kFirst[op_.id] + j].name) continue;
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

bool takes_dtype(std::string_view list, DType dtype) {
  if (list == "any") return dtype != HADAL_BOOL;
  const auto names = split(list, " ");
  return std::find(names.begin(), names.end(), dtype_name(dtype)) != names.end();
}

// One operand by itself: where it lies, its type, its strides.
std::string check_tensor(const hadal_tensor& t, const OperandRow& row) {
  const bool weight = row.role == HADAL_ROLE_WEIGHT || row.role == HADAL_ROLE_OPT_WEIGHT;
  if (weight != (t.space == HADAL_SPACE_WEIGHT))
    return weight ? "must be a weight" : "must not be a weight";
  if (t.rank < 1 || t.rank > HADAL_MAX_RANK) return "has rank " + std::to_string(t.rank);
  if (t.row_dim >= HADAL_DIM_COUNT) return "has an unknown row count";
  if (t.row_dim != HADAL_DIM_CONST && (weight || t.space == HADAL_SPACE_PLANE))
    return "cannot change its size from step to step";
  const DTypeInfo* info = dtype_info(static_cast<DType>(t.dtype));
  if (!info) return "has an unknown dtype";
  if (!takes_dtype(row.dtypes, info->dtype))
    return "is " + std::string(info->name) + ", expected " + std::string(row.dtypes);
  for (uint32_t d = 0; d < t.rank; ++d)
    if (t.extents[d] < 0) return "has a negative extent";
  if (weight) return t.offset != 0 ? "is a weight with an offset" : "";
  if (t.strides[t.rank - 1] != info->block_bytes)
    return "must be contiguous along its innermost extent";
  for (uint32_t d = 0; d < t.rank; ++d)
    if (t.strides[d] < 0 || t.strides[d] % info->block_bytes != 0)
      return "has a stride that is no multiple of its element";
  return t.offset % static_cast<uint64_t>(info->block_bytes) != 0
             ? "has an offset that is no multiple of its element"
             : "";
}

std::string check_router(const hadal_router_attr& a, const hadal_tensor* t) {
  const int64_t experts = t[HADAL_ROUTER_LOGITS].extents[1], k = t[HADAL_ROUTER_EXPERT].extents[1];
  if (a.score > HADAL_ROUTER_SQRT_SOFTPLUS) return "score is unknown";
  if (a.groups < 1 || experts % a.groups != 0) return "the experts must be a multiple of groups";
  if (a.groups_kept < 1 || a.groups_kept > a.groups) return "groups_kept must be 1 to groups";
  const int64_t run = experts / a.groups;
  if (a.group_best < 1 || a.group_best > 2 || a.group_best > run)
    return "group_best must be 1 or 2, and no more than a run has experts";
  if (k < 1 || k > run * a.groups_kept) return "asks for more experts than the kept groups have";
  if ((t[HADAL_ROUTER_HASH].space == HADAL_SPACE_NONE) !=
      (t[HADAL_ROUTER_TOKEN].space == HADAL_SPACE_NONE))
    return "token and hash go together";
  return std::isfinite(a.scale) && a.normalise <= 1 ? "" : "scale must be finite, normalise 0 or 1";
}

/// `pairs` has `fan` rows for each row of `tokens`; without tokens as many as `plain`.
std::string check_fan(const hadal_experts_attr& a, const hadal_tensor* tokens,
                      const hadal_tensor& plain, const hadal_tensor& pairs) {
  if (a.fan < 1) return "fan must be at least 1";
  const hadal_tensor& from = tokens ? *tokens : plain;
  const int64_t fan = tokens ? a.fan : 1;
  return from.row_dim == pairs.row_dim && from.extents[0] * fan == pairs.extents[0]
             ? ""
             : "the rows of the pairs are not fan times those of the tokens";
}

std::string check_latent(const hadal_latent_attr& a, const hadal_tensor* t) {
  const bool second = t[HADAL_LATENT_ATTENTION_PLANE2].space != HADAL_SPACE_NONE;
  for (const int operand : {HADAL_LATENT_ATTENTION_BLOCK_TABLE2, HADAL_LATENT_ATTENTION_FIRST2})
    if (second != (t[operand].space != HADAL_SPACE_NONE))
      return "plane2, block_table2 and first2 go together";
  if (!second && t[HADAL_LATENT_ATTENTION_LIST2].space != HADAL_SPACE_NONE)
    return "list2 without plane2";
  for (int i = 0; i <= (second ? 1 : 0); ++i)
    if (a.segments[i].ratio < 1) return "ratio must be at least 1";
  if (t[HADAL_LATENT_ATTENTION_OUT].extents[2] > t[HADAL_LATENT_ATTENTION_PLANE].extents[2])
    return "the values are wider than the entries";
  return std::isfinite(a.scale) ? "" : "scale must be finite";
}

std::string check_compress(const hadal_compress_attr& a, const hadal_tensor* t) {
  const int64_t width = t[HADAL_COMPRESS_OUT].extents[1] * (a.overlap ? 2 : 1);
  if (a.ratio < 1 || a.overlap > 1) return "ratio must be at least 1, overlap 0 or 1";
  if (t[HADAL_COMPRESS_PLANE].extents[2] != 2 * width) return "the plane's rows are not 2 widths";
  const hadal_tensor& ape = t[HADAL_COMPRESS_APE];
  return ape.space == HADAL_SPACE_NONE || ape.extents[0] == int64_t{a.ratio} * width
             ? ""
             : "ape must have ratio times the width";
}

std::string check_hc(const hadal_hc_attr& a, const hadal_tensor* t) {
  const auto given = [&](int operand) { return t[operand].space != HADAL_SPACE_NONE; };
  const int64_t n = t[HADAL_HC_PRE_X].extents[1];
  const bool all = given(HADAL_HC_PRE_POST), mixes = given(HADAL_HC_PRE_MIX);
  if (n < 1 || n > 16) return "1 to 16 streams";
  if (all != given(HADAL_HC_PRE_COMB)) return "post and comb go together";
  if (mixes != given(HADAL_HC_PRE_BASE) || mixes != given(HADAL_HC_PRE_SCALE))
    return "mix, base and scale go together";
  if (all && !mixes) return "post and comb need mix";
  if (!given(HADAL_HC_PRE_PRE) && !(mixes && given(HADAL_HC_PRE_OUT)))
    return "without pre, mix and out are needed";
  if (!mixes && !given(HADAL_HC_PRE_OUT)) return "neither mix nor out: nothing is asked";
  if (mixes && t[HADAL_HC_PRE_MIX].extents[1] != (all ? n * (n + 2) : n))
    return "mix must hold n numbers, or n (n + 2) with post and comb";
  if (mixes && t[HADAL_HC_PRE_SCALE].extents[0] != (all ? 3 : 1))
    return "scale must hold 1 or 3 numbers";
  return a.norm_eps >= 0 && a.eps >= 0 && a.iterations >= 1
             ? ""
             : "the epsilons must not be negative, iterations at least 1";
}

std::string check_index(const hadal_op& op, const hadal_tensor* t) {
  if (op.attr.index.ratio < 1) return "ratio must be at least 1";
  const bool blocks =
      op.id == HADAL_OP_INDEX_BLOCKS || t[HADAL_INDEX_TOPK_CANDIDATES].space != HADAL_SPACE_NONE;
  return blocks == (op.attr.index.block_size > 0) ? "" : "block_size goes with candidates";
}

std::string check_attributes(const hadal_op& op, const hadal_tensor* t) {
  const hadal_attributes& a = op.attr;
  switch (op.id) {
    case HADAL_OP_NORM:
      if (!(a.norm.eps >= 0) || !std::isfinite(a.norm.eps))
        return "eps must be a finite number, not negative";
      if (a.norm.layer > 1) return "layer must be 0 or 1";
      return !a.norm.layer && t[HADAL_NORM_B].space != HADAL_SPACE_NONE
                 ? "b belongs to a layer norm only"
                 : "";
    case HADAL_OP_ROPE:
      if (a.rope.dims % 2 != 0) return "dims must be even";
      if (static_cast<int64_t>(a.rope.first) + a.rope.dims > t[HADAL_ROPE_X].extents[2])
        return "first + dims is more than a head has";
      if (a.rope.interleaved > 1 || a.rope.inverse > 1)
        return "interleaved and inverse must be 0 or 1";
      return a.rope.ratio < 1 ? "ratio must be at least 1" : "";
    case HADAL_OP_SWIGLU:
    case HADAL_OP_GATED_MATMUL:
      return a.swiglu.clamp >= 0 ? "" : "clamp must not be negative";
    case HADAL_OP_KV_WRITE:
      return a.kv_write.ratio < 1 ? "ratio must be at least 1" : "";
    case HADAL_OP_GQA_ATTENTION:
      if (a.attention.kv_heads < 1 ||
          t[HADAL_GQA_ATTENTION_Q].extents[1] % a.attention.kv_heads != 0)
        return "the heads must be a multiple of kv_heads";
      return std::isfinite(a.attention.scale) ? "" : "scale must be finite";
    case HADAL_OP_ROUTER:
      return check_router(a.router, t);
    case HADAL_OP_GROUPED_MATMUL:
      return check_fan(a.experts,
                       t[HADAL_GROUPED_MATMUL_ORDER].space == HADAL_SPACE_NONE
                           ? nullptr
                           : &t[HADAL_GROUPED_MATMUL_X],
                       t[HADAL_GROUPED_MATMUL_X], t[HADAL_GROUPED_MATMUL_OUT]);
    case HADAL_OP_MOE_COMBINE:
      return check_fan(a.experts, &t[HADAL_MOE_COMBINE_OUT], t[HADAL_MOE_COMBINE_OUT],
                       t[HADAL_MOE_COMBINE_X]);
    case HADAL_OP_MOE_EXPERTS:
      return a.experts.clamp >= 0 ? "" : "clamp must not be negative";
    case HADAL_OP_LATENT_ATTENTION:
      return check_latent(a.latent, t);
    case HADAL_OP_COMPRESS:
      return check_compress(a.compress, t);
    case HADAL_OP_HC_PRE:
      return check_hc(a.hc, t);
    case HADAL_OP_HC_POST:
      return t[HADAL_HC_POST_X].extents[1] < 1 || t[HADAL_HC_POST_X].extents[1] > 16
                 ? "1 to 16 streams"
                 : "";
    case HADAL_OP_INDEX_TOPK:
    case HADAL_OP_INDEX_BLOCKS:
      return check_index(op, t);
    case HADAL_OP_GATHER_ROWS:
      return t[HADAL_GATHER_ROWS_X].dtype == t[HADAL_GATHER_ROWS_OUT].dtype
                 ? ""
                 : "x and out must be of one dtype";
    case HADAL_OP_ENGRAM_GATE:
      if (t[HADAL_ENGRAM_GATE_X].extents[1] < 1 || t[HADAL_ENGRAM_GATE_X].extents[1] > 16)
        return "1 to 16 streams";
      return a.engram.eps >= 0 && a.engram.floor >= 0 ? "" : "eps and floor must not be negative";
    case HADAL_OP_MLA_ATTENTION:
      return std::isfinite(a.latent.scale) ? "" : "scale must be finite";
    case HADAL_OP_SAMPLE:
      if (t[HADAL_SAMPLE_LOGITS].extents[1] < 1) return "a row of logits must hold at least one";
      return static_cast<int64_t>(a.sample.top) > t[HADAL_SAMPLE_LOGITS].extents[1]
                 ? "top is more than there are tokens"
                 : "";
    default:
      return "";
  }
}

}  // namespace

hadal_status check_operands(const hadal_op& op, const hadal_tensor* tensors, hadal_error* error) {
  const uint32_t n = operand_count(op.id);
  if (n == 0)
    return report(error, HADAL_UNSUPPORTED,
                  "operator " + std::to_string(op.id) + " is unknown to this chip");
  std::string why;
  for (uint32_t i = 0; why.empty() && i < n; ++i) {
    const OperandRow& row = kOperands[kFirst[op.id] + i];
    const bool optional = row.role == HADAL_ROLE_OPT_IN || row.role == HADAL_ROLE_OPT_INOUT ||
                          row.role == HADAL_ROLE_OPT_WEIGHT;
    if (tensors[i].space == HADAL_SPACE_NONE)
      why = optional ? "" : " is missing";
    else if (const std::string wrong = check_tensor(tensors[i], row); !wrong.empty())
      why = " " + wrong;
    if (!why.empty()) why = operand_name(op.id, i) + why;
  }
  if (why.empty()) why = ShapeCheck(op, tensors).run();
  if (why.empty()) why = check_attributes(op, tensors);
  if (why.empty()) return HADAL_OK;
  const hadal_tensor* pointers[HADAL_MAX_OPERANDS] = {};
  for (uint32_t i = 0; i < n; ++i) pointers[i] = &tensors[i];
  return report(error, HADAL_INVALID, describe(op, pointers) + ": " + why);
}

}  // namespace hadal::host_chip
