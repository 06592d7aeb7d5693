// Running one case on the chip under test.
#include <algorithm>
#include <chrono>
#include <cstring>

#include "kit.h"
#include "speed.h"

namespace hadal::conformance {
namespace {

/// What a run is for.
enum class Nested : uint8_t {
  kNo,     // a case
  kFills,  // writes the plane of a case
  kReads   // reads it back
};

constexpr uint64_t kFarBase = uint64_t{1} << 31;
constexpr uint64_t kFarRow = uint64_t{1} << 30;
constexpr int64_t kFarRows = 3;

/// Whether a far run moves the rows of an operand apart.
bool has_far_rows(const hadal_tensor& t) {
  return t.row_dim != HADAL_DIM_CONST && t.rank >= 2 && t.space != HADAL_SPACE_PLANE &&
         t.space != HADAL_SPACE_WEIGHT;
}

/// Memories of opaque planes that a run is given, by operand; null: it makes its own.
using Borrowed = std::array<hadal_memory*, HADAL_MAX_OPERANDS>;

/// The memories, weights and workspace of one run; freed at its end, whatever happens.
class Run {
 public:
  Run(const Case& c, const Layout& layout, const Device& device, const Borrowed& borrowed = {})
      : case_(c),
        layout_(layout),
        device_(device),
        chip_(*device.chip),
        borrowed_(borrowed),
        tensors_(layout.tensors) {}
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() {
    for (hadal_weight* w : weights_) chip_.weight_destroy(w);
    for (hadal_memory* m : memories_) chip_.mem_free(m);
  }

  Timing time(double seconds, int samples) {
    using Clock = std::chrono::steady_clock;
    Timing timing;
    const auto call = [&] {
      const auto start = Clock::now();
      const hadal_status status = run_op();
      const double took = std::chrono::duration<double>(Clock::now() - start).count();
      if (good(status)) return took;
      timing.why = error_.text;
      return -1.0;
    };
    if (!(measure_planes() && query() && create_weights() && upload(0))) {
      timing.why = outcome_.text.empty() ? error_.text : outcome_.text;
      timing.declined = outcome_.declined;
      return timing;
    }
    step_.host_inputs = layout_.before.inputs.data();
    chip_.queue_sync(device_.queue, nullptr);
    timing.op = layout_.op;
    for (uint32_t i = 0; i < HADAL_MAX_OPERANDS; ++i)
      if (layout_.op.operands[i] >= 0) timing.tensors[i] = tensor(i);
    timing.numerics = outcome_.numerics;
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    timing.first = call();
    while (timing.why.empty() && static_cast<int>(timing.warm.size()) < samples &&
           (timing.warm.size() < 3 || Clock::now() < end))
      timing.warm.push_back(call());
    no_rows_ = true;
    for (int i = 0; timing.why.empty() && i < samples; ++i) timing.launch.push_back(call());
    // Offsets of rows that are not there are wrong data, which a chip may refuse.
    if (std::count(timing.launch.begin(), timing.launch.end(), -1.0) != 0) {
      timing.launch.clear();
      timing.why.clear();
    }
    return timing;
  }

  Outcome go_far(Far far) {
    far_ = far;
    for (hadal_tensor& t : tensors_) {
      if (far == Far::kOffsets && t.space != HADAL_SPACE_WEIGHT) t.offset += kFarBase;
      if (far == Far::kRowStrides && has_far_rows(t)) t.strides[0] = static_cast<int64_t>(kFarRow);
    }
    return go(0xff);
  }

  Outcome go(uint8_t workspace_poison) {
    if (measure_planes() && query() && create_weights() && upload(workspace_poison)) {
      if (workspace_poison % 2 != 0) step_.host_inputs = layout_.before.inputs.data();
      const auto start = std::chrono::steady_clock::now();
      outcome_.status = run_op();
      outcome_.seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      download();
      if (outcome_.status == HADAL_OK) check_workspace();
      if (outcome_.status == HADAL_OK && nested_ == Nested::kNo) read_planes();
    }
    if (outcome_.text.empty()) outcome_.text = error_.text;
    return std::move(outcome_);
  }

 private:
  bool good(hadal_status status) {
    if (status != HADAL_OK) outcome_.status = status;
    return status == HADAL_OK;
  }

  [[nodiscard]] hadal_tensor& tensor(uint32_t operand) {
    return tensors_[static_cast<size_t>(layout_.op.operands[operand])];
  }

  [[nodiscard]] bool is_plane(uint32_t operand) const {
    return case_.operands[operand].present() && case_.operands[operand].plane;
  }

  /// Of opaque planes: how large a block is, and where the first one lies.
  bool measure_planes() {
    for (uint32_t i = 0; device_.opaque_planes() && i < HADAL_MAX_OPERANDS; ++i) {
      if (!is_plane(i)) continue;
      const hadal_plane_desc desc = plane_desc(case_, i);
      uint64_t bytes = 0;
      const hadal_status status = chip_.plane_bytes(device_.device, &desc, &bytes, &error_);
      outcome_.declined = outcome_.declined_plane = status == HADAL_UNSUPPORTED;
      if (!good(status)) return false;
      const uint64_t alignment = device_.placement.alignment;
      if (bytes == 0 || bytes % chip_alignment() != 0)
        outcome_.violation =
            "plane_bytes gives " + std::to_string(bytes) + ", no multiple of the alignment";
      tensor(i).strides[0] = static_cast<int64_t>(bytes);
      // A guard band is before it, and one behind.
      tensor(i).offset = alignment + std::max(base(), planes_base_);
    }
    return outcome_.violation.empty();
  }

  [[nodiscard]] uint64_t chip_alignment() const {
    hadal_device_info info{};
    info.size = sizeof info;
    return chip_.device_info(device_.device, &info) == HADAL_OK
               ? std::max<uint64_t>(info.alignment, 1)
               : 1;
  }

  bool query() {
    Support support = ask_support(device_, layout_.op, tensors_, layout_.limits.data());
    outcome_.declined = support.status == HADAL_UNSUPPORTED;
    outcome_.violation = support.violation;
    outcome_.numerics = support.numerics;
    outcome_.text = support.text;
    workspace_bytes_ = support.workspace_bytes;
    return good(support.status) && outcome_.violation.empty();
  }

  bool import(const Bytes& bytes, hadal_memory** out) {
    if (!good(chip_.mem_import(device_.device, bytes.data(), bytes.size(), out, &error_)))
      return false;
    memories_.push_back(*out);
    return true;
  }

  bool create_weights() {
    for (uint32_t i = 0; i < HADAL_MAX_OPERANDS; ++i) {
      const Operand& o = case_.operands[i];
      if (!o.weight) continue;
      std::vector<hadal_piece> pieces;
      for (const WeightData::Source& source : o.weight->sources) {
        hadal_piece piece{};
        piece.offset = o.weight->skew;
        piece.rows = source.rows;
        piece.row_stride = source.row_stride;
        if (!import(source.bytes, &piece.memory)) return false;
        if (!source.scale_bytes.empty()) {
          piece.scale_offset = o.weight->skew;
          piece.scale_row_stride = source.scale_row_stride;
          if (!import(source.scale_bytes, &piece.scale_memory)) return false;
        }
        pieces.push_back(piece);
      }
      uint64_t bytes = 0;
      hadal_status status = chip_.weight_bytes(device_.device, &o.weight->desc, &bytes, &error_);
      outcome_.declined = outcome_.declined_weight = status == HADAL_UNSUPPORTED;
      if (!good(status)) return false;
      status =
          chip_.weight_create(device_.device, &o.weight->desc, pieces.data(),
                              static_cast<uint32_t>(pieces.size()), &tensor(i).weight, &error_);
      if (!good(status)) return false;
      weights_.push_back(tensor(i).weight);
    }
    return true;
  }

  bool allocate(uint64_t bytes, hadal_memory** out) {
    if (!good(chip_.mem_alloc(device_.device, std::max<uint64_t>(bytes, 1), out, &error_)))
      return false;
    memories_.push_back(*out);
    return true;
  }

  /// Where the images begin.
  [[nodiscard]] uint64_t base() const { return far_ == Far::kOffsets ? kFarBase : 0; }

  bool allocate(const Bytes& bytes, hadal_memory** out) {
    const uint64_t behind = far_ == Far::kRowStrides ? kFarRow * (kFarRows - 1) : 0;
    return allocate(bytes.size() + base() + behind, out) &&
           (bytes.empty() ||
            good(chip_.copy_in(device_.queue, *out, base(), bytes.data(), bytes.size(), &error_)));
  }

  /// Calls visit(the row in its image, bytes, memory, offset of the row there) for each row of a
  /// memory that lies apart.
  template <typename Image, typename Visit>
  void each_far_row(Image& image, hadal_memory* memory, uint32_t space, Visit visit) {
    for (size_t i = 0; far_ == Far::kRowStrides && i < tensors_.size(); ++i) {
      const hadal_tensor& near = layout_.tensors[i];
      if (near.space != space || !has_far_rows(near)) continue;
      for (int64_t row = 1; row < layout_.rows[near.row_dim]; ++row) {
        const uint64_t at = near.offset + static_cast<uint64_t>(row * near.strides[0]);
        const auto bytes =
            std::min<uint64_t>(static_cast<uint64_t>(near.strides[0]), image.size() - at);
        visit(image.data() + at, bytes, memory, near.offset + static_cast<uint64_t>(row) * kFarRow);
      }
    }
  }

  bool upload_far_rows() {
    const Images& before = layout_.before;
    const auto up = [&](const std::byte* from, uint64_t bytes, hadal_memory* to, uint64_t offset) {
      good(chip_.copy_in(device_.queue, to, offset, from, bytes, &error_));
    };
    each_far_row(before.scratch, step_.scratch, HADAL_SPACE_SCRATCH, up);
    each_far_row(before.inputs, step_.inputs, HADAL_SPACE_INPUT, up);
    each_far_row(before.outputs, step_.outputs, HADAL_SPACE_OUTPUT, up);
    return outcome_.status == HADAL_OK;
  }

  void download_far_rows() {
    Images& after = outcome_.images;
    const auto down = [&](std::byte* to, uint64_t bytes, hadal_memory* from, uint64_t offset) {
      good(chip_.copy_out(device_.queue, to, from, offset, bytes, &error_));
    };
    each_far_row(after.scratch, step_.scratch, HADAL_SPACE_SCRATCH, down);
    each_far_row(after.inputs, step_.inputs, HADAL_SPACE_INPUT, down);
    each_far_row(after.outputs, step_.outputs, HADAL_SPACE_OUTPUT, down);
  }

  /// Runs a case of the kit's own on planes of this one.
  Outcome nested(const Case& c, Borrowed planes, const Layout& layout, Nested what) {
    Run run(c, layout, device_, planes);
    run.nested_ = what;
    // The planes are where they are; what else such a case has need not be far.
    run.planes_base_ = std::max(base(), planes_base_);
    return run.go(0xff);
  }

  bool make_opaque_plane(uint32_t operand, hadal_memory** out) {
    if (borrowed_[operand]) {
      *out = borrowed_[operand];
      return true;
    }
    const hadal_tensor& t = tensor(operand);
    const uint64_t bytes = t.offset + plane_bytes(t) + guard_behind(t);
    const uint64_t guarded = t.offset - device_.placement.alignment;
    if (!allocate(bytes, out) ||
        !good(chip_.fill(device_.queue, *out, guarded, bytes - guarded, kGuard, &error_)))
      return false;
    Operand plane = case_.operands[operand];
    const hadal_plane_desc desc = plane_desc(case_, operand);
    plane.plane_role = desc.role;
    plane.plane_heads = desc.heads;
    const Case fill = fill_case(plane);
    Borrowed planes{};
    planes[HADAL_KV_WRITE_PLANE] = *out;
    const Outcome outcome = nested(fill, planes, lay_out(fill, device_.placement), Nested::kFills);
    outcome_.violation = outcome.violation;
    outcome_.text = outcome.text;
    outcome_.declined = outcome.declined;
    return good(outcome.status) && outcome.violation.empty();
  }

  [[nodiscard]] static uint64_t plane_bytes(const hadal_tensor& t) {
    return static_cast<uint64_t>(t.extents[0]) * static_cast<uint64_t>(t.strides[0]);
  }

  /// As much as a block of plain rows: what is written to blocks that are too small shows there.
  [[nodiscard]] uint64_t guard_behind(const hadal_tensor& t) const {
    const int64_t element = dtype_info(static_cast<DType>(t.dtype))->block_bytes;
    return device_.placement.alignment +
           static_cast<uint64_t>(t.extents[1] * t.extents[2] * element);
  }

  bool upload(uint8_t workspace_poison) {
    const Images& before = layout_.before;
    planes_.resize(before.planes.size());
    for (uint32_t i = 0; i < HADAL_MAX_OPERANDS; ++i) {
      if (!is_plane(i)) continue;
      const uint32_t index = tensor(i).index;
      if (!(device_.opaque_planes() ? make_opaque_plane(i, &planes_[index])
                                    : allocate(before.planes[index], &planes_[index])))
        return false;
    }
    if (!allocate(before.scratch, &step_.scratch) || !allocate(before.inputs, &step_.inputs) ||
        !allocate(before.outputs, &step_.outputs) || !upload_far_rows())
      return false;
    if (workspace_bytes_ == 0) return true;
    return allocate(workspace_bytes_ + kGuardBehindWorkspace, &step_.workspace) &&
           good(chip_.fill(device_.queue, step_.workspace, 0, workspace_bytes_, workspace_poison,
                           &error_)) &&
           good(chip_.fill(device_.queue, step_.workspace, workspace_bytes_, kGuardBehindWorkspace,
                           kGuard, &error_));
  }

  hadal_status run_op() {
    hadal_tape tape{};
    tape.size = sizeof tape;
    tape.tensor_count = static_cast<uint32_t>(tensors_.size());
    tape.tensors = tensors_.data();
    tape.op_count = 1;
    tape.ops = &layout_.op;
    std::copy(layout_.limits.begin(), layout_.limits.end(), tape.limits);
    const uint64_t more = far_ == Far::kRowStrides ? kFarRow * (kFarRows - 1) : base();
    tape.scratch_bytes = layout_.before.scratch.size() + more;
    tape.input_bytes = layout_.before.inputs.size() + more;
    tape.output_bytes = layout_.before.outputs.size() + more;
    tape.plane_count = static_cast<uint32_t>(planes_.size());
    step_.size = sizeof step_;
    step_.plane_count = tape.plane_count;
    std::copy(layout_.rows.begin(), layout_.rows.end(), step_.rows);
    if (no_rows_) std::fill(step_.rows + HADAL_DIM_T, step_.rows + HADAL_DIM_COUNT, 0);
    step_.planes = planes_.data();
    const hadal_status status = chip_.op_run(device_.queue, &tape, 0, 1, &step_, &error_);
    const hadal_status synced =
        chip_.queue_sync(device_.queue, status == HADAL_OK ? &error_ : nullptr);
    return status != HADAL_OK ? status : synced;
  }

  void copy_out(Bytes& bytes, hadal_memory* from, uint64_t offset) {
    if (!bytes.empty())
      good(chip_.copy_out(device_.queue, bytes.data(), from, offset, bytes.size(), &error_));
  }

  void download() {
    outcome_.images = layout_.before;
    copy_out(outcome_.images.scratch, step_.scratch, base());
    copy_out(outcome_.images.inputs, step_.inputs, base());
    copy_out(outcome_.images.outputs, step_.outputs, base());
    download_far_rows();
    if (device_.opaque_planes()) {
      good(chip_.queue_sync(device_.queue, &error_));
      check_guards();
      return;
    }
    for (size_t i = 0; i < planes_.size(); ++i)
      copy_out(outcome_.images.planes[i], planes_[i], base());
    good(chip_.queue_sync(device_.queue, &error_));
  }

  /// The workspace is as large as was asked for.
  void check_workspace() {
    if (workspace_bytes_ == 0) return;
    Bytes behind(kGuardBehindWorkspace);
    copy_out(behind, step_.workspace, workspace_bytes_);
    good(chip_.queue_sync(device_.queue, &error_));
    const auto changed = std::find_if(behind.begin(), behind.end(),
                                      [](std::byte b) { return b != std::byte{kGuard}; });
    if (changed != behind.end() && outcome_.violation.empty())
      outcome_.violation = "wrote behind its workspace of " + std::to_string(workspace_bytes_) +
                           " bytes, as op_support asked for";
  }

  /// What lies before and behind an opaque plane is the host's.
  void check_guards() {
    for (uint32_t i = 0; i < HADAL_MAX_OPERANDS; ++i) {
      if (!is_plane(i)) continue;
      const hadal_tensor& t = tensor(i);
      Bytes before(device_.placement.alignment), behind(guard_behind(t));
      copy_out(before, planes_[t.index], t.offset - before.size());
      copy_out(behind, planes_[t.index], t.offset + plane_bytes(t));
      good(chip_.queue_sync(device_.queue, &error_));
      const auto intact = [](std::byte b) { return b == std::byte{kGuard}; };
      if (!std::all_of(before.begin(), before.end(), intact) ||
          !std::all_of(behind.begin(), behind.end(), intact))
        outcome_.violation = "wrote outside of its plane, of " + std::to_string(t.extents[0]) +
                             " blocks of " + std::to_string(t.strides[0]) + " bytes";
    }
  }

  /// Opaque planes that the operator wrote.
  void read_planes() {
    for (uint32_t i = 0; device_.opaque_planes() && i < HADAL_MAX_OPERANDS; ++i) {
      if (!is_plane(i) || !is_written(case_.id, i)) continue;
      const Case read = read_case(case_.operands[i]);
      const Layout layout = lay_out(read, device_.placement);
      Borrowed planes{};
      planes[HADAL_GQA_ATTENTION_V] = planes_[tensor(i).index];
      const Outcome outcome = nested(read, planes, layout, Nested::kReads);
      if (outcome_.violation.empty()) outcome_.violation = outcome.violation;
      outcome_.declined = outcome_.declined_plane = outcome.declined;
      outcome_.text = outcome.text;
      outcome_.read_numerics = outcome.numerics;
      if (good(outcome.status))
        outcome_.read_back[i] = extract(layout, outcome.images, HADAL_GQA_ATTENTION_OUT);
    }
  }

  static constexpr uint8_t kGuard = 0xff;
  static constexpr uint64_t kGuardBehindWorkspace = 256;

  const Case& case_;
  const Layout& layout_;
  const Device& device_;
  hadal_chip& chip_;
  const Borrowed borrowed_;
  Nested nested_ = Nested::kNo;
  Far far_ = Far::kNo;
  uint64_t planes_base_ = 0;
  bool no_rows_ = false;
  std::vector<hadal_tensor> tensors_;
  hadal_error error_ = fresh_error();
  Outcome outcome_;
  uint64_t workspace_bytes_ = 0;
  hadal_step step_{};
  std::vector<hadal_memory*> planes_;
  std::vector<hadal_memory*> memories_;
  std::vector<hadal_weight*> weights_;
};

// What op_support says beside op_query must fit to it.
void check_answer(const hadal_op_answer& answer, hadal_status status, Support& support) {
  const auto said = [](hadal_status s) { return std::to_string(static_cast<int>(s)); };
  if (status != support.status) {
    support.violation = "op_support answers with status " + said(status) + ", op_query with " +
                        said(support.status);
    return;
  }
  if (status != HADAL_OK) return;
  if (answer.workspace_bytes != support.workspace_bytes)
    support.violation = "op_support asks for " + std::to_string(answer.workspace_bytes) +
                        " bytes of workspace, op_query for " +
                        std::to_string(support.workspace_bytes);
  if (answer.numerics >= HADAL_NUMERICS_COUNT)
    support.violation = "op_support answers with the class of numerics " +
                        std::to_string(answer.numerics) + ", which does not exist";
  if (answer.numerics == HADAL_NUMERICS_BLOCK8 && answer.block != 32 && answer.block != 256)
    support.violation = "op_support answers block8 with blocks of " + std::to_string(answer.block) +
                        ", not of 32 or 256";
}

}  // namespace

Support ask_support(const Device& device, const hadal_op& op,
                    const std::vector<hadal_tensor>& tensors, const int64_t* limits) {
  const hadal_chip& chip = *device.chip;
  std::array<hadal_tensor, HADAL_MAX_OPERANDS> operands{};
  for (uint32_t i = 0; i < HADAL_MAX_OPERANDS; ++i)
    if (op.operands[i] >= 0) operands[i] = tensors[static_cast<size_t>(op.operands[i])];
  Support support;
  hadal_error error = fresh_error();
  support.status =
      chip.op_query(device.device, &op, operands.data(), limits, &support.workspace_bytes, &error);
  support.text = error.text;
  if (!chip.op_support) return support;
  hadal_op_answer answer{};
  answer.size = sizeof answer;
  error = fresh_error();
  const hadal_status status =
      chip.op_support(device.device, &op, operands.data(), limits, &answer, &error);
  check_answer(answer, status, support);
  if (status != HADAL_OK && error.text[0] == '\0')
    support.violation = "op_support says no without a text";
  if (status == HADAL_OK) support.numerics = {answer.numerics, answer.block};
  return support;
}

Outcome run_case(const Case& c, const Layout& layout, const Device& device,
                 uint8_t workspace_poison) {
  return Run(c, layout, device).go(workspace_poison);
}

bool fits_far_rows(const Case& c) {
  bool any = false;
  for (const Operand& o : c.operands) {
    if (!o.present() || o.row_dim == HADAL_DIM_CONST || o.plane) continue;
    if (o.per_row != 1 || c.rows[o.row_dim] > kFarRows) return false;
    any = any || (o.shape.size() >= 2 && c.rows[o.row_dim] == kFarRows);
  }
  return any;
}

uint64_t far_bytes(const Layout& layout, Far far) {
  const uint64_t near = std::max(
      {layout.before.scratch.size(), layout.before.inputs.size(), layout.before.outputs.size()});
  return near + (far == Far::kRowStrides ? kFarRow * (kFarRows - 1) : kFarBase);
}

Outcome run_far(const Case& c, const Layout& layout, const Device& device, Far far) {
  return Run(c, layout, device).go_far(far);
}

Timing time_case(const Case& c, const Layout& layout, const Device& device, double seconds,
                 int samples) {
  return Run(c, layout, device).time(seconds, samples);
}

}  // namespace hadal::conformance
