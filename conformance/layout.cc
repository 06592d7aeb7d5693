// Where the operands of a case lie: every one in its own region of poisoned memory, between guard
// bands.
#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "contract/operators.h"
#include "kit.h"

namespace hadal::conformance {
namespace {

constexpr std::byte kPoison{0xff};       // as fp32, fp16 and bf16: NaN; as an index: -1
constexpr std::byte kOutputGuard{0xfe};  // a number: what was made of a poisoned input shows there
constexpr size_t kGuardBytes = 128;

int64_t element_bytes(uint32_t dtype) { return dtype_info(static_cast<DType>(dtype))->block_bytes; }

// Inputs and outputs are spread over the spaces that the contract allows for them.
uint32_t choose_space(const Case& c, uint32_t operand) {
  const hadal_role role = contract::operand_role(c.id, operand);
  if (c.operands[operand].weight) return HADAL_SPACE_WEIGHT;
  if (c.operands[operand].plane) return HADAL_SPACE_PLANE;
  if (role == HADAL_ROLE_OUT)
    return (operand + c.name.size()) % 2 == 0 ? HADAL_SPACE_SCRATCH : HADAL_SPACE_OUTPUT;
  if (role == HADAL_ROLE_INOUT || role == HADAL_ROLE_OPT_INOUT) return HADAL_SPACE_SCRATCH;
  return (operand + c.name.size()) % 2 == 0 ? HADAL_SPACE_INPUT : HADAL_SPACE_SCRATCH;
}

hadal_tensor describe(const Operand& o, uint32_t space) {
  hadal_tensor t{};
  t.dtype = o.dtype;
  t.space = space;
  t.rank = static_cast<uint32_t>(o.shape.size());
  t.row_dim = o.row_dim;
  std::fill(std::begin(t.extents), std::end(t.extents), 1);
  std::copy(o.shape.begin(), o.shape.end(), t.extents);
  if (o.row_dim != HADAL_DIM_CONST) t.extents[0] = o.per_row;
  if (space == HADAL_SPACE_WEIGHT) return t;
  int64_t stride = element_bytes(o.dtype);
  const int64_t element = stride;
  for (uint32_t d = t.rank; d-- > 0;) {
    t.strides[d] = stride;
    stride *= t.extents[d];
    if (t.rank == 3 && d == 2) stride += o.head_pad * element;
    if (t.rank >= 2 && d == 1) stride += o.row_pad * element;
  }
  return t;
}

// Calls visit(byte offset from the tensor's start, dense byte offset, bytes) for each contiguous
// run of the operand.
template <typename Visit>
void each_run(const hadal_tensor& t, int64_t rows, Visit visit) {
  const int64_t element = element_bytes(t.dtype);
  const int64_t run = (t.rank == 1 ? rows : t.extents[t.rank - 1]) * element;
  const int64_t outer = t.rank == 1 ? 1 : rows;
  const int64_t inner = t.rank == 3 ? t.extents[1] : 1;
  for (int64_t i = 0; i < outer; ++i)
    for (int64_t j = 0; j < inner; ++j)
      visit((t.rank == 1 ? 0 : i * t.strides[0]) + (t.rank == 3 ? j * t.strides[1] : 0),
            (i * inner + j) * run, static_cast<size_t>(run));
}

Bytes& image(Images& images, const hadal_tensor& t) {
  switch (t.space) {
    case HADAL_SPACE_INPUT:
      return images.inputs;
    case HADAL_SPACE_OUTPUT:
      return images.outputs;
    case HADAL_SPACE_PLANE:
      return images.planes[t.index];
    default:
      return images.scratch;
  }
}

// Appends a region for `t` with room for `rows` rows, and a guard band behind it. `shift`: bytes of
// columns that stand before those of a view.
void place(Images& images, Images& writable, hadal_tensor& t, int64_t rows, uint32_t alignment,
           uint64_t shift) {
  Bytes& memory = image(images, t);
  const size_t guarded = memory.size() + kGuardBytes;
  const size_t pair = size_t{2} * alignment;
  // Aligned as the chip asks, and no better.
  t.offset = (guarded + pair - 1) / pair * pair + alignment + shift;
  if (shift != 0) t.flags |= HADAL_TENSOR_COLUMNS;
  const int64_t bytes = t.rank == 1 ? rows * element_bytes(t.dtype) : rows * t.strides[0];
  memory.resize(t.offset + static_cast<size_t>(bytes) + kGuardBytes, kPoison);
  image(writable, t).resize(memory.size(), std::byte{0});
}

// Bands and gaps of what is written hold other bytes than those of what is read.
void guard_output(Bytes& memory, const hadal_tensor& t, int64_t most) {
  std::fill(memory.begin() + static_cast<int64_t>(t.offset) - static_cast<int64_t>(kGuardBytes),
            memory.end(), kOutputGuard);
  each_run(t, most, [&](int64_t at, int64_t, size_t bytes) {
    std::fill_n(memory.begin() + static_cast<int64_t>(t.offset) + at, bytes, kPoison);
  });
}

int64_t rows_of(const Layout& layout, const hadal_tensor& t) {
  return t.extents[0] * layout.rows[t.row_dim];
}

// `most`: rows at the limit.
void mark_writable(Layout& layout, const hadal_tensor& t, int64_t most) {
  std::byte* mask = image(layout.writable, t).data() + t.offset;
  const auto mark = [&](int64_t rows, std::byte with) {
    each_run(t, rows,
             [&](int64_t at, int64_t, size_t bytes) { std::fill_n(mask + at, bytes, with); });
  };
  mark(most, kAboveCount);
  mark(rows_of(layout, t), kWritten);
}

}  // namespace

bool is_written(uint32_t id, uint32_t operand) {
  const hadal_role role = contract::operand_role(id, operand);
  return role == HADAL_ROLE_OUT || role == HADAL_ROLE_INOUT || role == HADAL_ROLE_OPT_INOUT;
}

Layout lay_out(const Case& c, const Placement& placement) {
  Layout layout;
  layout.op.id = c.id;
  layout.op.attr = c.attr;
  layout.rows = c.rows;
  for (size_t d = 0; d < HADAL_DIM_COUNT; ++d)
    layout.limits[d] = d == 0 ? 1 : std::max<int64_t>(1, c.rows[d] + c.spare[d]);
  std::fill(std::begin(layout.op.operands), std::end(layout.op.operands), -1);
  for (uint32_t i = 0; i < contract::operand_count(c.id); ++i) {
    const Operand& o = c.operands[i];
    if (!o.present() || o.alias >= 0) continue;
    hadal_tensor t = describe(o, choose_space(c, i));
    if (t.space == HADAL_SPACE_PLANE) {
      t.flags = plane_desc(c, i).role;
      t.index = static_cast<uint32_t>(layout.before.planes.size());
      layout.before.planes.emplace_back();
      layout.writable.planes.emplace_back();
    }
    if (t.space != HADAL_SPACE_WEIGHT) {
      const int64_t most = t.extents[0] * layout.limits[o.row_dim];
      const uint64_t shift = placement.columns && !o.plane && t.rank >= 2 && o.row_pad > 0
                                 ? static_cast<uint64_t>((o.row_pad + 1) / 2) *
                                       static_cast<uint64_t>(element_bytes(o.dtype))
                                 : 0;
      place(layout.before, layout.writable, t, most, placement.alignment, shift);
      if (is_written(c.id, i)) {
        guard_output(image(layout.before, t), t, most);
        mark_writable(layout, t, most);
      }
      std::byte* memory = image(layout.before, t).data() + t.offset;
      each_run(t, rows_of(layout, t), [&](int64_t at, int64_t dense, size_t bytes) {
        if (!o.data.empty()) std::memcpy(memory + at, o.data.data() + dense, bytes);
      });
    }
    layout.op.operands[i] = static_cast<int32_t>(layout.tensors.size());
    layout.tensors.push_back(t);
  }
  for (uint32_t i = 0; i < contract::operand_count(c.id); ++i) {
    const Operand& o = c.operands[i];
    if (o.alias < 0) continue;
    layout.op.operands[i] = layout.op.operands[o.alias];
    const hadal_tensor& t = layout.tensors[static_cast<size_t>(layout.op.operands[i])];
    if (is_written(c.id, i)) mark_writable(layout, t, t.extents[0] * layout.limits[t.row_dim]);
  }
  return layout;
}

Bytes extract(const Layout& layout, const Images& images, uint32_t operand) {
  const hadal_tensor& t = layout.tensors[static_cast<size_t>(layout.op.operands[operand])];
  const Bytes& memory = image(const_cast<Images&>(images), t);
  Bytes dense;
  each_run(t, rows_of(layout, t), [&](int64_t at, int64_t from, size_t bytes) {
    dense.resize(static_cast<size_t>(from) + bytes);
    if (bytes != 0)
      std::memcpy(dense.data() + from, memory.data() + t.offset + static_cast<uint64_t>(at), bytes);
  });
  return dense;
}

std::string nearest_operand(uint32_t id, const Layout& layout, hadal_space space, size_t plane,
                            uint64_t byte) {
  std::string nearest = "in none of its operands";
  uint64_t least = ~uint64_t{0};
  for (uint32_t i = 0; i < contract::operand_count(id); ++i) {
    if (layout.op.operands[i] < 0) continue;
    const hadal_tensor& t = layout.tensors[static_cast<size_t>(layout.op.operands[i])];
    if (t.space != space || (space == HADAL_SPACE_PLANE && t.index != plane)) continue;
    const int64_t rows = t.extents[0] * layout.rows[t.row_dim];
    const uint64_t end = t.offset + static_cast<uint64_t>(rows * t.strides[0]);
    const uint64_t away = byte < t.offset ? t.offset - byte
                          : byte >= end   ? byte - end + 1
                                          : uint64_t{0};
    if (away >= least) continue;
    least = away;
    const char* name = contract::operand_name(id, i);
    nearest = byte < t.offset ? fmt::format("{} bytes before {}", away, name)
              : byte >= end
                  ? fmt::format("byte {} behind {}", away, name)
                  : fmt::format("byte {} of {}, which is not its own", byte - t.offset, name);
  }
  return nearest;
}

}  // namespace hadal::conformance
