#include "ops/launch.h"

#include <algorithm>
#include <cstring>

#include "contract/operators.h"
#include "contract/report.h"
#include "runtime/sources.h"

namespace hadal::opencl {
namespace {

int64_t bytes_of(uint32_t dtype) { return dtype == HADAL_F16 || dtype == HADAL_BF16 ? 2 : 4; }

}  // namespace

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

bool next_rows(const Call& call, std::initializer_list<uint32_t> weights, Rows* rows) {
  const int64_t first = rows->first + rows->count;
  int64_t end = INT64_MAX;
  for (const uint32_t operand : weights)
    if (const Weight* w = call[operand].weight)
      end = std::min(end, first < w->rows() ? w->end_of(w->part_of(first)) : first);
  *rows = {first, end == INT64_MAX ? 0 : end - first};
  return rows->count > 0;
}

Memo::~Memo() {
  for (const std::vector<Built>& builds : launches_)
    for (const Built& built : builds) device_.cl.clReleaseKernel(built.kernel);
}

Memo::Built* Memo::next(const char* file, const char* kernel, const std::string& variant,
                        std::string* why) {
  if (next_ == launches_.size()) launches_.emplace_back();
  std::vector<Built>& builds = launches_[next_++];
  const std::string key = kernel + variant;
  for (Built& built : builds)
    if (built.key == key) return &built;
  cl_kernel made = device_.make_kernel(file, kernel, variant, why);
  return made ? &builds.emplace_back(Built{key, made, {}}) : nullptr;
}

Launch::Launch(Call& call, const char* file, const char* kernel, const std::string& variant)
    : call_(call), cl_(call.device->cl), name_(kernel) {
  if (call.memo) {
    built_ = call.memo->next(file, kernel, variant, &why_);
    if (built_) kernel_ = built_->kernel;
  } else {
    kernel_ = call.device->kernel(file, kernel, variant, &why_);
  }
}

// A handle may be that of a new memory in the place of one that is gone, so it is always set.
void Launch::put(size_t bytes, const void* value, bool is_memory) {
  if (!why_.empty() || !call_.queue) return;
  const cl_uint at = next_++;
  if (built_) {
    if (built_->arguments.size() <= at) built_->arguments.resize(at + 1);
    // The size alone says what a local argument is.
    std::vector<std::byte>& last = built_->arguments[at];
    const bool same =
        last.size() == bytes && (!value || std::memcmp(last.data(), value, bytes) == 0);
    if (same && !is_memory) return;
    last.assign(bytes, std::byte{0});
    if (value) std::memcpy(last.data(), value, bytes);
  }
  const cl_int status = cl_.clSetKernelArg(kernel_, at, bytes, value);
  if (status != CL_SUCCESS) why_ = failure(("argument " + std::to_string(at)).c_str(), status);
}

void Launch::place(int64_t value) {
  const cl_long number = value;
  put(sizeof number, &number);
}

Launch& Launch::tensor(uint32_t operand, uint32_t strides) {
  const Operand& o = call_[operand];
  const int64_t size = bytes_of(o.dtype);
  const cl_mem memory = o.present() ? o.memory : call_.no_memory();
  put(sizeof memory, &memory, true);
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
  const cl_mem memory = o.present() ? o.memory : call_.no_memory();
  put(sizeof memory, &memory, true);
  number(type_of(o.dtype)).number(o.extents[0]).number(o.extents[1]);
  place(static_cast<int64_t>(o.offset) / bytes_of(o.dtype));
  place(o.strides[0] / bytes_of(o.dtype));
  return *this;
}

Launch& Launch::no_matrix() {
  memory(call_.no_memory());
  place(0);
  place(0);
  return *this;
}

Launch& Launch::weight(uint32_t operand, const Rows& rows) {
  const Weight* w = call_[operand].weight;
  const Weight::Part part = w ? w->parts[w->part_of(rows.first)] : Weight::Part{call_.no_memory()};
  put(sizeof part.buffer, &part.buffer);
  number(w ? w->type : 0).number(part.first);
  place(w ? w->stride : 0);
  return *this;
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
  const cl_mem memory = call_.workspace ? call_.workspace : call_.no_memory();
  put(sizeof memory, &memory, true);
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

Launch& Launch::memory(cl_mem memory) {
  put(sizeof memory, &memory, true);
  return *this;
}

Launch& Launch::four(const cl_int (&values)[4]) {
  put(sizeof values, values);
  return *this;
}

hadal_status Launch::run_groups(int64_t columns, int64_t rows) {
  if (why_.empty() && (columns <= 0 || rows <= 0 || !call_.queue)) return HADAL_OK;
  if (why_.empty()) {
    memory(call_.queue->fault);
    const cl_int launch = call_.queue->next_launch(call_.told_as);
    put(sizeof launch, &launch);
  }
  hadal_status failed = HADAL_DEVICE_FAILED;
  if (why_.empty()) {
    const size_t global[] = {static_cast<size_t>(columns) * kGroup, static_cast<size_t>(rows)};
    const size_t local[] = {kGroup, 1};
    const cl_int status = cl_.clEnqueueNDRangeKernel(call_.queue->queue, kernel_, 2, nullptr,
                                                     global, local, 0, nullptr, nullptr);
    call_.device->counts[call_.memo ? 1 : 0].launched(name_);
    if (status == CL_SUCCESS) return HADAL_OK;
    why_ = failure("the launch", status);
    failed = status_of(status);
  }
  const char* what = call_.op ? contract::op_name(call_.op->id) : name_;
  return contract::report(call_.error, failed, std::string(what) + ": " + why_);
}

hadal_status Launch::run_items(int64_t columns, int64_t rows) {
  constexpr auto kItems = static_cast<int64_t>(kGroup);
  return run_groups((columns + kItems - 1) / kItems, rows);
}

}  // namespace hadal::opencl
