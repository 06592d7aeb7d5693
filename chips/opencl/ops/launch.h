// One launch of a kernel: its arguments in their order, then how many work-groups.
//
// How an operand is passed stands in kernels/common.cl: an absent one is some memory with zeros for
// places and strides, and the kernel is told by `given`. The fault and the launch's number are put
// behind all other arguments. What fails is kept and told by run_groups or run_items.
//
// A program launches the same kernels step after step: it gives its calls a Memo, which keeps a
// kernel of its own for each launch, with the arguments that stand in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "runtime/device.h"
#include "runtime/weights.h"

namespace hadal::opencl {

/// An operand as it stands in one step.
struct Operand {
  cl_mem memory = nullptr;
  uint64_t offset = 0;             ///< bytes
  const Weight* weight = nullptr;  ///< `memory` is its first part
  uint32_t dtype = HADAL_DTYPE_NONE;
  uint32_t rank = 0;
  int64_t extents[HADAL_MAX_RANK] = {1, 1, 1, 1};  ///< [0] is this step's number of rows
  int64_t strides[HADAL_MAX_RANK] = {0, 0, 0, 0};  ///< bytes

  [[nodiscard]] bool present() const { return rank != 0; }
};

/// The kernels that one operator of a program launches, each with the arguments that were set last.
class Memo {
 public:
  struct Built {
    std::string key;  ///< name and variant
    cl_kernel kernel = nullptr;
    std::vector<std::vector<std::byte>> arguments;
  };

  explicit Memo(Device& device) : device_(device) {}
  Memo(Memo&&) = default;
  Memo(const Memo&) = delete;
  Memo& operator=(const Memo&) = delete;
  ~Memo();

  /// Launches are counted anew in each step.
  void begin() { next_ = 0; }
  /// The kernel of the next launch; null, and why.
  Built* next(const char* file, const char* kernel, const std::string& variant, std::string* why);

 private:
  Device& device_;
  std::vector<std::vector<Built>> launches_;  ///< of each its builds: one row, many rows
  size_t next_ = 0;
};

/// One operator in one step.
struct Call {
  const hadal_op* op = nullptr;  ///< null: several in one launch
  uint32_t told_as = 0;          ///< the operator that a fault names; 0: the kernel says which
  Device* device = nullptr;
  Queue* queue = nullptr;  ///< null: kernels are only built
  Memo* memo = nullptr;    ///< of a program
  Operand operands[HADAL_MAX_OPERANDS];
  cl_mem workspace = nullptr;
  hadal_error* error = nullptr;

  const Operand& operator[](size_t i) const { return operands[i]; }
  /// What stands for an absent operand.
  [[nodiscard]] cl_mem no_memory() const { return queue ? queue->fault : nullptr; }
};

/// TYPE_… of kernels/common.cl, of numbers side by side.
int64_t type_of(uint32_t dtype);

/// Rows of a weight, counted through its matrices.
struct Rows {
  int64_t first = 0, count = 0;
};

/// The next rows that lie in one buffer of every one of the weights, which have the same shape;
/// absent ones lie everywhere. False: there are no more.
bool next_rows(const Call& call, std::initializer_list<uint32_t> weights, Rows* rows);

/// Calls `body` for each run of rows that one launch can have; once, with no rows, if the weights
/// are absent.
template <typename Body>
hadal_status for_parts(const Call& call, std::initializer_list<uint32_t> weights, Body body) {
  Rows rows;
  while (next_rows(call, weights, &rows) || rows.first == 0) {
    const hadal_status status = body(rows);
    if (status != HADAL_OK || rows.count == 0) return status;
  }
  return HADAL_OK;
}

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
  /// The part of a weight that has these rows.
  Launch& weight(uint32_t operand, const Rows& rows);
  Launch& rows(const Rows& rows) { return number(rows.first).number(rows.count); }
  /// A matrix of F32, F16 or BF16: memory, type, place, stride.
  Launch& typed_matrix(uint32_t operand);
  /// Part of the workspace as a matrix of words; `at` and `row` in words.
  Launch& workspace_matrix(int64_t at, int64_t row);
  Launch& workspace_vector(int64_t at);
  Launch& given(uint32_t operand) { return number(call_[operand].present() ? 1 : 0); }
  Launch& number(int64_t value);
  Launch& real(float value);
  Launch& local(int64_t words);
  Launch& memory(cl_mem memory);
  Launch& four(const cl_int (&values)[4]);

  /// So many work-groups; none is fine.
  hadal_status run_groups(int64_t columns, int64_t rows);
  /// So many work-items, in groups along the columns.
  hadal_status run_items(int64_t columns, int64_t rows);

 private:
  Launch& tensor(uint32_t operand, uint32_t strides);
  void put(size_t bytes, const void* value, bool is_memory = false);
  void place(int64_t value);

  Call& call_;
  const Functions& cl_;
  const char* name_;
  cl_kernel kernel_ = nullptr;
  Memo::Built* built_ = nullptr;
  cl_uint next_ = 0;
  std::string why_;
};

}  // namespace hadal::opencl
