// The chip under test: opening it, and running one case on it.
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/builtin_chips.h"
#include "kit.h"

namespace hadal::conformance {
namespace {

hadal_chip_query_fn built_in(const std::string& name) {
  if (name == "ref") return hadal_ref_chip_query;
#ifdef HADAL_HAS_CPU_CHIP
  if (name == "cpu") return hadal_cpu_chip_query;
#endif
  return nullptr;
}

void log_nothing(void*, uint32_t, const char*) {}

hadal_error fresh_error() {
  hadal_error error{};
  error.size = sizeof error;
  return error;
}

/// The memories, weights and workspace of one run; freed at its end, whatever happens.
class Run {
 public:
  Run(const Case& c, Layout& layout, const Device& device)
      : case_(c), layout_(layout), device_(device), chip_(*device.chip) {}
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() {
    for (hadal_weight* w : weights_) chip_.weight_destroy(w);
    for (hadal_memory* m : memories_) chip_.mem_free(m);
  }

  Outcome go(uint8_t workspace_poison) {
    if (query() && create_weights() && upload(workspace_poison)) {
      const auto start = std::chrono::steady_clock::now();
      outcome_.status = run_op();
      outcome_.seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      download();
    }
    outcome_.text = error_.text;
    for (hadal_tensor& t : layout_.tensors) t.weight = nullptr;
    return std::move(outcome_);
  }

 private:
  bool good(hadal_status status) {
    if (status != HADAL_OK) outcome_.status = status;
    return status == HADAL_OK;
  }

  bool query() {
    std::array<hadal_tensor, HADAL_MAX_OPERANDS> tensors{};
    for (uint32_t i = 0; i < HADAL_MAX_OPERANDS; ++i)
      if (layout_.op.operands[i] >= 0)
        tensors[i] = layout_.tensors[static_cast<size_t>(layout_.op.operands[i])];
    const hadal_status status = chip_.op_query(device_.device, &layout_.op, tensors.data(),
                                               layout_.limits.data(), &workspace_bytes_, &error_);
    outcome_.declined = status == HADAL_UNSUPPORTED;
    return good(status);
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
      hadal_weight*& w = layout_.tensors[static_cast<size_t>(layout_.op.operands[i])].weight;
      status = chip_.weight_create(device_.device, &o.weight->desc, pieces.data(),
                                   static_cast<uint32_t>(pieces.size()), &w, &error_);
      if (!good(status)) return false;
      weights_.push_back(w);
    }
    return true;
  }

  bool allocate(const Bytes& bytes, hadal_memory** out) {
    if (!good(chip_.mem_alloc(device_.device, std::max<size_t>(bytes.size(), 1), out, &error_)))
      return false;
    memories_.push_back(*out);
    return bytes.empty() ||
           good(chip_.copy_in(device_.queue, *out, 0, bytes.data(), bytes.size(), &error_));
  }

  bool upload(uint8_t workspace_poison) {
    const Images& before = layout_.before;
    planes_.resize(before.planes.size());
    for (size_t i = 0; i < planes_.size(); ++i)
      if (!allocate(before.planes[i], &planes_[i])) return false;
    if (!allocate(before.scratch, &step_.scratch) || !allocate(before.inputs, &step_.inputs) ||
        !allocate(before.outputs, &step_.outputs))
      return false;
    if (workspace_bytes_ == 0) return true;
    if (!good(chip_.mem_alloc(device_.device, workspace_bytes_, &step_.workspace, &error_)))
      return false;
    memories_.push_back(step_.workspace);
    return good(
        chip_.fill(device_.queue, step_.workspace, 0, workspace_bytes_, workspace_poison, &error_));
  }

  hadal_status run_op() {
    hadal_tape tape{};
    tape.size = sizeof tape;
    tape.tensor_count = static_cast<uint32_t>(layout_.tensors.size());
    tape.tensors = layout_.tensors.data();
    tape.op_count = 1;
    tape.ops = &layout_.op;
    std::copy(layout_.limits.begin(), layout_.limits.end(), tape.limits);
    tape.scratch_bytes = layout_.before.scratch.size();
    tape.input_bytes = layout_.before.inputs.size();
    tape.output_bytes = layout_.before.outputs.size();
    tape.plane_count = static_cast<uint32_t>(planes_.size());
    step_.size = sizeof step_;
    step_.plane_count = tape.plane_count;
    std::copy(layout_.rows.begin(), layout_.rows.end(), step_.rows);
    step_.planes = planes_.data();
    const hadal_status status = chip_.op_run(device_.queue, &tape, 0, 1, &step_, &error_);
    const hadal_status synced =
        chip_.queue_sync(device_.queue, status == HADAL_OK ? &error_ : nullptr);
    return status != HADAL_OK ? status : synced;
  }

  void download() {
    outcome_.images = layout_.before;
    const auto read = [&](Bytes& bytes, hadal_memory* from) {
      if (!bytes.empty())
        good(chip_.copy_out(device_.queue, bytes.data(), from, 0, bytes.size(), &error_));
    };
    read(outcome_.images.scratch, step_.scratch);
    read(outcome_.images.inputs, step_.inputs);
    read(outcome_.images.outputs, step_.outputs);
    for (size_t i = 0; i < planes_.size(); ++i) read(outcome_.images.planes[i], planes_[i]);
  }

  const Case& case_;
  Layout& layout_;
  const Device& device_;
  hadal_chip& chip_;
  hadal_error error_ = fresh_error();
  Outcome outcome_;
  uint64_t workspace_bytes_ = 0;
  hadal_step step_{};
  std::vector<hadal_memory*> planes_;
  std::vector<hadal_memory*> memories_;
  std::vector<hadal_weight*> weights_;
};

}  // namespace

Outcome run_case(const Case& c, Layout& layout, const Device& device, uint8_t workspace_poison) {
  return Run(c, layout, device).go(workspace_poison);
}

std::string Chip::open(const std::string& name, const std::string& kernels) {
  query = built_in(name);
  if (!query) {
    if (name.find('/') == std::string::npos)
      return "no chip \"" + name + "\" is built in; a plug-in is given by its path (./name.so)";
    library_ = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library_) return ::dlerror();
    query = reinterpret_cast<hadal_chip_query_fn>(::dlsym(library_, "hadal_chip_query"));
    if (!query) return name + " exports no hadal_chip_query";
  }
  static constexpr hadal_host kHost{sizeof(hadal_host), 0, nullptr, log_nothing};
  table.size = sizeof table;
  if (query(&kHost, HADAL_ABI, &table) != HADAL_OK)
    return name + " does not speak version 1 of the contract";
  if (!table.device_count || table.device_count(&table) < 1) return name + " finds no device";
  hadal_error error = fresh_error();
  for (int32_t i = 0; i < 3; ++i) {
    Device& d = devices[static_cast<size_t>(i)];
    hadal_device_options options{sizeof(hadal_device_options), i + 1,
                                 kernels.empty() ? nullptr : kernels.c_str()};
    if (table.device_open(&table, 0, &options, &d.device, &error) != HADAL_OK ||
        table.queue_create(d.device, &d.queue, &error) != HADAL_OK)
      return name + ": device 0 does not open: " + error.text;
    d.chip = &table;
    d.threads = i + 1;
  }
  info.size = sizeof info;
  return table.device_info(devices[0].device, &info) == HADAL_OK
             ? std::string()
             : name + " tells nothing of its device";
}

Chip::~Chip() {
  for (Device& d : devices) {
    if (d.queue) table.queue_destroy(d.queue);
    if (d.device) table.device_close(d.device);
  }
  if (table.close) table.close(&table);
  if (library_) ::dlclose(library_);
}

}  // namespace hadal::conformance
