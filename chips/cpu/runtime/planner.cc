#include "runtime/planner.h"

#include <algorithm>
#include <cstring>

#include "base/dtype.h"
#include "contract/check.h"
#include "contract/operators.h"

namespace hadal::cpu {
namespace {

constexpr uint32_t kWorkspace = 100;  ///< as a space in Access: the plan's own memory

bool overlap(const Access& a, const Access& b) {
  if (a.space != b.space || a.index != b.index || a.begin >= b.end || b.begin >= a.end)
    return false;
  if (a.stride == b.stride && a.stride != 0) {
    const uint64_t x = a.begin % a.stride, y = b.begin % a.stride;
    if (x + a.width <= a.stride && y + b.width <= a.stride &&
        (x + a.width <= y || y + b.width <= x))
      return false;
  }
  return true;
}

Access access_of(const hadal_tensor& t, const int64_t* limits, bool write) {
  Access a;
  a.space = t.space;
  a.write = write;
  if (t.space == HADAL_SPACE_PLANE) {
    a.index = t.index;
    a.end = UINT64_MAX;
    return a;
  }
  const int64_t rows = t.extents[0] * limits[t.row_dim];
  int64_t width = dtype_info(static_cast<DType>(t.dtype))->block_bytes;
  for (uint32_t d = 1; d < t.rank; ++d)
    width += std::max<int64_t>(0, t.extents[d] - 1) * t.strides[d];
  if (t.rank == 1) width = t.strides[0];
  a.width = static_cast<uint64_t>(width);
  a.stride = t.rank == 1 ? 0 : static_cast<uint64_t>(t.strides[0]);
  a.begin = t.offset;
  a.end = t.offset + static_cast<uint64_t>(std::max<int64_t>(0, rows - 1) * t.strides[0] + width);
  if (rows == 0) a.end = a.begin;
  return a;
}

Access access_of(const Buffer& b) {
  return {.space = kWorkspace, .begin = b.at, .end = b.at + b.bytes, .write = b.write};
}

bool same_tensor(const hadal_tensor& a, const hadal_tensor& b) {
  return a.dtype == b.dtype && a.space == b.space && a.rank == b.rank && a.row_dim == b.row_dim &&
         a.offset == b.offset && a.index == b.index && a.weight == b.weight &&
         std::memcmp(a.extents, b.extents, sizeof a.extents) == 0 &&
         std::memcmp(a.strides, b.strides, sizeof a.strides) == 0;
}

bool is_data(const hadal_tensor& t) {
  return contract::present(t) && t.space != HADAL_SPACE_WEIGHT;
}

}  // namespace

hadal_status Planner::add(uint32_t index, hadal_error* error) {
  index_ = index;
  const Device& device = plan_.device_;
  if (const hadal_status s = contract::gather_operands(tape_, op(), operands_, error);
      s != HADAL_OK)
    return s;
  if (const hadal_status s =
          query_op(device, {op(), operands_, tape_.limits, device.exact}, &needs_, error);
      s != HADAL_OK)
    return s;
  const Operator& row = *device.find(op().id);
  plan_.temp_bytes_ = std::max(plan_.temp_bytes_, needs_.temp);
  const size_t first_stage = plan_.stages_.size();
  eager_bytes_ = 0;
  const Stage main{.run = row.run, .op = index};
  row.plan ? row.plan(*this, main) : push(main);
  forget_written();
  if (eager()) {
    plan_.workspace_bytes_ = std::max(plan_.workspace_bytes_, eager_bytes_);
    bool(&barrier)[2] = plan_.stages_[first_stage].barrier;
    barrier[0] = barrier[1] = true;
  }
  if (row.indices) note_check();
  return HADAL_OK;
}

Buffer Planner::allocate(uint64_t bytes) {
  uint64_t& top = eager() ? eager_bytes_ : plan_.workspace_bytes_;
  const Buffer buffer{.at = (top + 63) / 64 * 64, .bytes = bytes};
  top = buffer.at + bytes;
  return buffer;
}

Buffer Planner::shared_buffer(void (*kind)(const Call&), uint64_t bytes) {
  if (bytes == 0) return {};
  if (eager()) return allocate(bytes);
  auto it =
      std::find_if(shared_.begin(), shared_.end(), [&](const Shared& s) { return s.kind == kind; });
  if (it == shared_.end()) it = shared_.insert(it, {kind, {}});
  if (it->buffer.bytes < bytes) it->buffer = allocate(bytes);
  Buffer buffer = it->buffer;
  buffer.bytes = bytes;
  return buffer;
}

void Planner::push_in_two(Stage main, Stage rest) {
  main.buffers[0] = shared_buffer(main.run, needs_.workspace);
  rest.op = main.op;
  rest.buffers[0] = main.buffers[0];
  main.buffers[0].write = true;
  push(main);
  if (main.buffers[0].bytes != 0) push(rest);
}

void Planner::derive(Stage& reader, const Derivation& how) {
  plan_.own_bytes_ = std::max(plan_.own_bytes_, how.own_bytes);
  const hadal_tensor& source = operands_[how.source];
  auto it = std::find_if(derived_.begin(), derived_.end(), [&](const Derived& d) {
    return d.make == how.make && d.key == how.key && same_tensor(d.source, source);
  });
  if (eager() || it == derived_.end()) {
    if (!how.keep) std::erase_if(derived_, [&](const Derived& d) { return d.make == how.make; });
    Buffer buffer = how.keep ? allocate(how.bytes) : shared_buffer(how.make, how.bytes);
    buffer.few = how.few;
    derived_.push_back({how.make, source, how.key, next_id_++, buffer});
    it = derived_.end() - 1;
    buffer.write = true;
    const Access read = access_of(source, tape_.limits, false);
    push({.run = how.make, .op = index_, .few = how.few, .buffers = {buffer}, .derived = it->id},
         {&read, 1});
  }
  reader.derived = it->id;
  reader.buffers[0] = it->buffer;
}

void Planner::push(const Stage& stage) {
  std::vector<Access> operands;
  for (uint32_t i = 0; i < contract::operand_count(op().id); ++i)
    if (is_data(operands_[i]))
      operands.push_back(access_of(operands_[i], tape_.limits,
                                   contract::writes(contract::operand_role(op().id, i))));
  push(stage, operands);
}

void Planner::push(Stage stage, std::span<const Access> operands) {
  for (const bool few : {true, false}) {
    if (few && !stage.few) continue;
    std::vector<Access> list(operands.begin(), operands.end());
    for (const Buffer& buffer : stage.buffers)
      if (buffer.bytes != 0 && (buffer.few || !few)) list.push_back(access_of(buffer));
    std::vector<Access>& open = open_[few ? 0 : 1];
    bool meets = false;
    for (const Access& a : list)
      for (const Access& b : open) meets = meets || ((a.write || b.write) && overlap(a, b));
    stage.barrier[few ? 0 : 1] = meets;
    if (meets && !stage.wanted) open.clear();
    open.insert(open.end(), list.begin(), list.end());
  }
  plan_.stages_.push_back(stage);
}

void Planner::forget_written() {
  for (uint32_t i = 0; i < contract::operand_count(op().id); ++i) {
    if (!is_data(operands_[i]) || !contract::writes(contract::operand_role(op().id, i))) continue;
    const Access written = access_of(operands_[i], tape_.limits, true);
    std::erase_if(derived_, [&](const Derived& d) {
      return overlap(access_of(d.source, tape_.limits, false), written);
    });
  }
}

/// Indices that the host wrote are checked before the step, once for operators that share them;
/// others at their stage.
void Planner::note_check() {
  bool host = eager() || !plan_.writes_inputs_;
  for (uint32_t i = 0; i < contract::operand_count(op().id); ++i)
    if (is_data(operands_[i]) && operands_[i].dtype == HADAL_I32 &&
        contract::operand_role(op().id, i) != HADAL_ROLE_OUT)
      host = host && operands_[i].space == HADAL_SPACE_INPUT;
  if (!host) {
    for (Stage& s : plan_.stages_)
      if (s.op == index_) s.validate = true;
    return;
  }
  for (const uint32_t other : plan_.checks_)
    if (same_check(plan_.ops_[other], op())) return;
  plan_.checks_.push_back(index_);
}

bool Planner::same_check(const hadal_op& a, const hadal_op& b) const {
  // Bytes between the members may differ: then a check runs twice.
  // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison)
  if (a.id != b.id || std::memcmp(&a.attr, &b.attr, sizeof a.attr) != 0) return false;
  for (uint32_t i = 0; i < contract::operand_count(a.id); ++i) {
    if ((a.operands[i] < 0) != (b.operands[i] < 0)) return false;
    if (a.operands[i] < 0) continue;
    const hadal_tensor &x = tape_.tensors[a.operands[i]], &y = tape_.tensors[b.operands[i]];
    // Numbers of a table that is gathered from may be indices as well: the router's HASH.
    const bool table = contract::operand_use(a.id, i) == HADAL_USE_GATHER;
    if ((x.dtype == HADAL_I32 || table) && !same_tensor(x, y)) return false;
    if (std::memcmp(x.extents, y.extents, sizeof x.extents) != 0)
      return false;  // blocks of planes, sizes of tables
  }
  return true;
}

}  // namespace hadal::cpu
