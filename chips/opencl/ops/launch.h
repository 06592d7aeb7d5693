// One launch of a kernel: its arguments in their order, then how many work-groups.
//
// How an operand is passed stands in kernels/common.cl: an absent one is some memory with zeros for
// places and strides, and the kernel is told by `given`. The fault and the launch's number are put
// behind all other arguments. What fails is kept and told by run_groups or run_items.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/device.h"
#include "runtime/weights.h"

namespace hadal::opencl {

/// An operand as it stands in one step.
struct Operand {
  cl_mem memory = nullptr;
  uint64_t offset = 0;  ///< bytes
  uint32_t dtype = HADAL_DTYPE_NONE;
  uint32_t rank = 0;
  int64_t extents[HADAL_MAX_RANK] = {1, 1, 1, 1};  ///< [0] is this step's number of rows
  int64_t strides[HADAL_MAX_RANK] = {0, 0, 0, 0};  ///< bytes

  [[nodiscard]] bool present() const { return rank != 0; }
};

/// One operator in one step.
struct Call {
  const hadal_op* op = nullptr;
  Queue* queue = nullptr;
  Operand operands[HADAL_MAX_OPERANDS];
  cl_mem workspace = nullptr;
  hadal_error* error = nullptr;

  const Operand& operator[](size_t i) const { return operands[i]; }
};

/// By what number kernels know the type of a weight.
int64_t weight_type_of(uint32_t dtype);

class Launch {
 public:
  /// `file`: of kernels/, without .cl. `variant`: options of its build.
  Launch(Call& call, const char* file, const char* kernel, const std::string& variant = {});

  Launch& vector(uint32_t operand) { return tensor(operand, 0); }
  Launch& matrix(uint32_t operand) { return tensor(operand, 1); }
  Launch& cube(uint32_t operand) { return tensor(operand, 2); }
  /// As a cube, of one head where the operand has rank 2.
  Launch& rows_of_heads(uint32_t operand);
  Launch& plane(uint32_t operand);
  Launch& no_matrix();
  /// Memory and type of a weight, whose matrices lie side by side.
  Launch& weight(uint32_t operand);
  /// A matrix of F32, F16 or BF16: memory, type, place, stride.
  Launch& typed_matrix(uint32_t operand);
  /// Part of the workspace as a matrix of words; `at` and `row` in words.
  Launch& workspace_matrix(int64_t at, int64_t row);
  Launch& workspace_vector(int64_t at);
  Launch& given(uint32_t operand) { return number(call_[operand].present() ? 1 : 0); }
  Launch& number(int64_t value);
  Launch& real(float value);
  Launch& local(int64_t words);

  /// So many work-groups; none is fine.
  hadal_status run_groups(int64_t columns, int64_t rows);
  /// So many work-items, in groups along the columns.
  hadal_status run_items(int64_t columns, int64_t rows);

 private:
  Launch& tensor(uint32_t operand, uint32_t strides);
  void put(size_t bytes, const void* value);
  void place(int64_t value);

  Call& call_;
  const Functions& cl_;
  cl_kernel kernel_ = nullptr;
  cl_uint next_ = 0;
  std::string why_;
};

}  // namespace hadal::opencl
