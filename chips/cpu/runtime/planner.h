// Planner: turns the operators of a tape into stages.
//
// Finds which stages need a barrier before them, which values are made once and read by several
// operators (quantised activations, tables of RoPE), and lays out the workspace.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "runtime/plan.h"

namespace hadal::cpu {

/// Bytes that a stage reads or writes. Rows of `width` bytes every `stride`: columns of one buffer
/// do not meet.
struct Access {
  uint32_t space = HADAL_SPACE_NONE;
  uint32_t index = 0;
  uint64_t begin = 0, end = 0;
  uint64_t stride = 0, width = 0;
  bool write = false;
};

/// A value that is a function of one operand, made by a stage of its own.
struct Derivation {
  void (*make)(const Call& call) = nullptr;  ///< writes buffer 0
  uint32_t source = 0;                       ///< the operand
  std::string key;  ///< what else it depends on: equal keys mean equal values
  uint64_t bytes = 0;
  bool few = true;         ///< made together in steps of few rows, too
  bool keep = false;       ///< has memory of its own, else that of the last of its kind
  uint64_t own_bytes = 0;  ///< memory of each worker that makes it for itself
};

class Planner {
 public:
  Planner(Plan& plan, const hadal_tape& tape) : plan_(plan), tape_(tape) {}

  /// Plans the plan's operator `index`.
  hadal_status add(uint32_t index, hadal_error* error);

  // ---- for Operator::plan: the operator that is being planned
  [[nodiscard]] bool eager() const { return plan_.eager_; }
  [[nodiscard]] const hadal_op& op() const { return plan_.ops_[index_]; }
  const hadal_tensor& operator[](uint32_t operand) const { return operands_[operand]; }
  [[nodiscard]] int64_t rows(uint32_t operand) const {
    return operands_[operand].extents[0] * tape_.limits[operands_[operand].row_dim];
  }
  [[nodiscard]] const Needs& needs() const { return needs_; }
  /// Appends a stage that touches all operands of the operator and its own buffers.
  void push(const Stage& stage);
  /// Appends `main`, and a stage that ends its work where that went through the operator's
  /// workspace (its needs), buffer 0 of both. Without a workspace: `main` alone.
  void push_in_two(Stage main, Stage rest);
  /// Memory that stages of one kind use after one another; it grows to the largest.
  Buffer shared_buffer(void (*kind)(const Call&), uint64_t bytes);
  /// Lets `reader` read the value: one that was made before if its source is unwritten since, else
  /// a new stage makes it.
  void derive(Stage& reader, const Derivation& how);

 private:
  struct Derived {
    void (*make)(const Call&);
    hadal_tensor source;
    std::string key;
    int32_t id;
    Buffer buffer;
  };
  struct Shared {
    void (*kind)(const Call&);
    Buffer buffer;
  };

  Buffer allocate(uint64_t bytes);
  void push(Stage stage, std::span<const Access> operands);
  void forget_written();
  void note_check();
  [[nodiscard]] bool same_check(const hadal_op& a, const hadal_op& b) const;

  Plan& plan_;
  const hadal_tape& tape_;
  uint32_t index_ = 0;
  hadal_tensor operands_[HADAL_MAX_OPERANDS] = {};
  Needs needs_;
  uint64_t eager_bytes_ = 0;     ///< workspace of the operator that is being planned
  std::vector<Access> open_[2];  ///< since the last barrier
  std::vector<Derived> derived_;
  std::vector<Shared> shared_;
  int32_t next_id_ = 0;
};

}  // namespace hadal::cpu
