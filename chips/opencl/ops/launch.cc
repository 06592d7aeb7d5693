#include "ops/launch.h"

#include "contract/operators.h"
#include "contract/report.h"
#include "runtime/sources.h"

namespace hadal::opencl {
namespace {

int64_t bytes_of(uint32_t dtype) { return dtype == HADAL_F16 || dtype == HADAL_BF16 ? 2 : 4; }

/// TYPE_… of kernels/common.cl.
int64_t type_of(uint32_t dtype) {
  switch (dtype) {
    case HADAL_F16:
      return 1;
    case HADAL_BF16:
      return 2;
    case HADAL_I32:
      return 3;
    case HADAL_I64:
      return 4;
    default:
      return 0;
  }
}

}  // namespace

int64_t weight_type_of(uint32_t dtype) { return is_block(dtype) ? dtype : type_of(dtype); }

Launch::Launch(Call& call, const char* file, const char* kernel, const std::string& variant)
    : call_(call), cl_(call.queue->device.cl) {
  kernel_ = call.queue->device.kernel(file, kernel, variant, &why_);
}

void Launch::put(size_t bytes, const void* value) {
  if (!why_.empty()) return;
  const cl_int status = cl_.clSetKernelArg(kernel_, next_, bytes, value);
  if (status != CL_SUCCESS) why_ = failure(("argument " + std::to_string(next_)).c_str(), status);
  ++next_;
}

void Launch::place(int64_t value) {
  const cl_long number = value;
  put(sizeof number, &number);
}

Launch& Launch::tensor(uint32_t operand, uint32_t strides) {
  const Operand& o = call_[operand];
  const int64_t size = bytes_of(o.dtype);
  const cl_mem memory = o.present() ? o.memory : call_.queue->fault;
  put(sizeof memory, &memory);
  place(static_cast<int64_t>(o.offset) / size);
  for (uint32_t d = 0; d < strides; ++d) place(o.strides[d] / size);
  return *this;
}

Launch& Launch::rows_of_heads(uint32_t operand) {
  if (call_[operand].rank == 3) return cube(operand);
  matrix(operand);
  place(0);
  return *this;
}

Launch& Launch::plane(uint32_t operand) {
  const Operand& o = call_[operand];
  const cl_mem memory = o.present() ? o.memory : call_.queue->fault;
  put(sizeof memory, &memory);
  number(type_of(o.dtype)).number(o.extents[0]).number(o.extents[1]);
  place(static_cast<int64_t>(o.offset) / bytes_of(o.dtype));
  place(o.strides[0] / bytes_of(o.dtype));
  return *this;
}

Launch& Launch::no_matrix() {
  put(sizeof(cl_mem), &call_.queue->fault);
  place(0);
  place(0);
  return *this;
}

Launch& Launch::weight(uint32_t operand) {
  const Operand& o = call_[operand];
  const cl_mem memory = o.present() ? o.memory : call_.queue->fault;
  put(sizeof memory, &memory);
  return number(weight_type_of(o.dtype));
}

Launch& Launch::typed_matrix(uint32_t operand) {
  const Operand& o = call_[operand];
  put(sizeof o.memory, &o.memory);
  number(type_of(o.dtype));
  place(static_cast<int64_t>(o.offset) / bytes_of(o.dtype));
  place(o.strides[0] / bytes_of(o.dtype));
  return *this;
}

Launch& Launch::workspace_vector(int64_t at) {
  const cl_mem memory = call_.workspace ? call_.workspace : call_.queue->fault;
  put(sizeof memory, &memory);
  place(at);
  return *this;
}

Launch& Launch::workspace_matrix(int64_t at, int64_t row) {
  workspace_vector(at);
  place(row);
  return *this;
}

Launch& Launch::number(int64_t value) {
  const auto word = static_cast<cl_int>(value);
  put(sizeof word, &word);
  return *this;
}

Launch& Launch::real(float value) {
  put(sizeof value, &value);
  return *this;
}

Launch& Launch::local(int64_t words) {
  put(static_cast<size_t>(words < 1 ? 1 : words) * 4, nullptr);
  return *this;
}

hadal_status Launch::run_groups(int64_t columns, int64_t rows) {
  if (columns <= 0 || rows <= 0) return HADAL_OK;
  put(sizeof(cl_mem), &call_.queue->fault);
  const cl_int launch = call_.queue->next_launch(call_.op->id);
  put(sizeof launch, &launch);
  if (why_.empty()) {
    const size_t global[] = {static_cast<size_t>(columns) * kGroup, static_cast<size_t>(rows)};
    const size_t local[] = {kGroup, 1};
    const cl_int status = cl_.clEnqueueNDRangeKernel(call_.queue->queue, kernel_, 2, nullptr,
                                                     global, local, 0, nullptr, nullptr);
    if (status == CL_SUCCESS) return HADAL_OK;
    why_ = failure("the launch", status);
  }
  return contract::report(call_.error, HADAL_DEVICE_FAILED,
                          std::string(contract::op_name(call_.op->id)) + ": " + why_);
}

hadal_status Launch::run_items(int64_t columns, int64_t rows) {
  constexpr auto kItems = static_cast<int64_t>(kGroup);
  return run_groups((columns + kItems - 1) / kItems, rows);
}

}  // namespace hadal::opencl
