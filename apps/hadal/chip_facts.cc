#include "chip_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "base/child.h"
#include "base/dtype.h"
#include "command.h"
#include "device/device.h"

namespace hadal::app {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kRows = 512, kCols = 512;  ///< of the weight that is asked about
constexpr uint32_t kLastType = 63;           ///< the codes of dtypes.inc end before it

Json of_device(const Device& device) {
  const hadal_device_info& info = device.info();
  Json j;
  j["device"] = info.name;
  j["threads"] = info.threads;
  j["instruction_sets"] = info.instruction_sets;
  j["kernels"] = info.kernels;
  j["all_kernels"] = info.all_kernels;
  j["memory_total"] = info.memory_total;
  j["memory_free"] = info.memory_free;
  j["row_invariant"] = info.row_invariant != 0;
  j["kernels_version"] = info.kernels_version;
  j["host_memory"] = info.host_memory != 0;
  return j;
}

hadal_tensor matrix(uint32_t dtype, uint32_t space, uint32_t row_dim, int64_t rows) {
  hadal_tensor t{};
  t.dtype = dtype;
  t.space = space;
  t.rank = 2;
  t.row_dim = row_dim;
  for (int64_t& extent : t.extents) extent = 1;
  t.extents[0] = rows;
  t.extents[1] = kCols;
  if (space != HADAL_SPACE_WEIGHT) {
    t.strides[1] = sizeof(float);
    t.strides[0] = kCols * t.strides[1];
  }
  return t;
}

/// The class of a product by a weight that is stored as `dtype`; none if the chip takes no such.
std::optional<std::string> class_of_product(const Device& device, uint32_t dtype) {
  hadal_weight_desc desc{};
  desc.size = sizeof desc;
  desc.dtype = dtype;
  desc.uses = HADAL_USE_MATMUL;
  desc.keeps_source = 1;
  desc.batch = 1;
  desc.rows = kRows;
  desc.cols = kCols;
  if (dtype == HADAL_F8_E4M3) {  // as the official checkpoints scale it
    desc.scale_dtype = HADAL_F32;
    desc.scale_block_rows = desc.scale_block_cols = 128;
  }
  if (dtype == HADAL_F4_E2M1) {
    desc.scale_dtype = HADAL_F8_E8M0;
    desc.scale_block_rows = 1;
    desc.scale_block_cols = 32;
  }
  if (!device.weight_bytes(desc)) return std::nullopt;
  hadal_op op{};
  op.id = HADAL_OP_MATMUL;
  for (int32_t& operand : op.operands) operand = -1;
  for (const int32_t operand : {HADAL_MATMUL_X, HADAL_MATMUL_W, HADAL_MATMUL_OUT})
    op.operands[operand] = operand;
  std::vector<hadal_tensor> tensors(HADAL_MAX_OPERANDS);
  tensors[HADAL_MATMUL_X] = matrix(HADAL_F32, HADAL_SPACE_SCRATCH, HADAL_DIM_T, 1);
  tensors[HADAL_MATMUL_W] = matrix(dtype, HADAL_SPACE_WEIGHT, HADAL_DIM_CONST, kRows);
  tensors[HADAL_MATMUL_OUT] = matrix(HADAL_F32, HADAL_SPACE_SCRATCH, HADAL_DIM_T, 1);
  const int64_t limits[HADAL_DIM_COUNT] = {1, 1, 1, 1, 1};
  const OpSupport support = device.query(op, tensors, limits);
  if (!support.supported) return std::nullopt;
  return support.numerics.name();
}

/// Types that it multiplies by as they are stored, each with its class.
Json stored_types(const Device& device) {
  Json types = Json::object();
  for (uint32_t dtype = 1; dtype <= kLastType; ++dtype) {
    const DTypeInfo* info = dtype_info(static_cast<DType>(dtype));
    if (!info) continue;
    if (const auto numerics = class_of_product(device, dtype))
      types[std::string(info->name)] = *numerics;
  }
  return types;
}

Json forms_of(const Device& device) {
  Json forms = Json::array();
  for (const hadal_weight_form& f : device.weight_forms(HADAL_USE_MATMUL)) {
    Json form = {{"type", dtype_name(static_cast<DType>(f.dtype))},
                 {"numerics", contract::numerics_name(f.numerics, 0)}};
    if (f.scale_dtype != HADAL_DTYPE_NONE) {
      form["scale_type"] = dtype_name(static_cast<DType>(f.scale_dtype));
      form["scale_block"] = {f.block_rows, f.block_cols};
    }
    forms.push_back(std::move(form));
  }
  return forms;
}

Status add_peaks(const Device& device, Json& j) {
  HADAL_TRY(const Device::Peaks peaks, device.measure());
  j["read_bytes_per_second"] = peaks.read_bytes_per_second;
  j["int8_ops_per_second"] = peaks.int8_ops_per_second;
  j["fp32_flops_per_second"] = peaks.fp32_flops_per_second;
  return {};
}

Result<std::unique_ptr<Device>> open(const ChipQuestion& question, int32_t index) {
  return Device::open({.chip = question.path.empty() ? question.name : question.path,
                       .index = index,
                       .plugin_folders = chip_folders(),
                       .log = question.log});
}

/// Asks in this process.
Result<Json> ask(const ChipQuestion& question) {
  HADAL_TRY(const std::unique_ptr<Device> first, open(question, 0));
  Json j;
  j["chip"] = question.name;
  j.update(of_device(*first));
  Json types = Json::array();
  for (const hadal_weight_form& f : first->weight_forms(HADAL_USE_MATMUL))
    types.push_back(dtype_name(static_cast<DType>(f.dtype)));
  j["weight_forms"] = types;
  j["program"] = first->has_program();
  j["runs"] = true;
  j["path"] = question.path.empty() ? Json() : Json(question.path);
  j["contract"] = fmt::format("{}.{}", first->contract() >> 16, first->contract() & 0xffff);
  j["events"] = first->has_events();
  j["comm"] = first->has_comm();
  j["profile"] = first->has_profile();
  j["matmul_types"] = stored_types(*first);
  j["matmul_forms"] = forms_of(*first);
  j["devices"] = Json::array();
  for (int32_t index = 0; index < first->device_count(); ++index) {
    HADAL_TRY(const std::unique_ptr<Device> device, open(question, index));
    Json each = {{"index", index}};
    each.update(of_device(*device));
    j["devices"].push_back(std::move(each));
  }
  if (question.measure && first->has_profile()) HADAL_TRY(add_peaks(*first, j));
  return j;
}

// A driver may compile its kernels for every device when it is first opened.
constexpr std::chrono::seconds kOpeningLimit{60};

}  // namespace

Result<Json> chip_facts(const ChipQuestion& question) {
  const auto builtin = builtin_chips();
  if (question.path.empty() &&
      std::find(builtin.begin(), builtin.end(), question.name) != builtin.end())
    return ask(question);
  const auto said = ask_in_child(
      [&question] {
        const Result<Json> facts = ask(question);
        const Json j = facts ? Json{{"facts", *facts}}
                             : Json{{"error", facts.error().message}, {"code", facts.error().code}};
        return j.dump(-1, ' ', false, Json::error_handler_t::replace);
      },
      "its devices are opened and asked", kOpeningLimit);
  if (!said) {
    const std::string& chip = question.path.empty() ? question.name : question.path;
    return Error{said.error().code, chip + ": " + said.error().message +
                                        "; that is a fault of the plug-in or of its driver"};
  }
  Json j = Json::parse(*said);
  if (j.contains("facts")) return std::move(j["facts"]);
  return Error{j["code"].get<ErrorCode>(), j["error"].get<std::string>()};
}

}  // namespace hadal::app
