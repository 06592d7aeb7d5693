// What an operator is to this chip: a row {run, query, indices, plan}, exported by a file of ops/.
//
// The walk over a tape knows operators by their rows alone. A row says which stages an operator
// has, what they touch and what memory they need; a stage is called by every worker and hands out
// its work by a counter, so that nothing in the results depends on who does what.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "common/host_chip.h"
#include "runtime/device.h"

namespace hadal::cpu {

/// Steps with at most so many rows of every kind make derived values in each worker (no barrier)
/// instead of together.
constexpr int64_t kFewRows = 4;
/// Operators on at most so many rows may be split along their caches.
constexpr int64_t kSplitRows = 4;

/// A piece of the plan's workspace that a stage touches.
struct Buffer {
  uint64_t at = 0, bytes = 0;
  bool write = false;
  bool few = true;  ///< touched in steps of few rows, too
};

struct Call;

/// One parallel piece of work.
struct Stage {
  void (*run)(const Call& call) = nullptr;
  /// Whether this step needs the stage; all workers find the same. Null: every step does. A barrier
  /// before such a stage closes nothing, since it may be left out.
  bool (*wanted)(const Call& call) = nullptr;
  uint32_t op = 0;                   ///< index into the plan's operators
  bool few = true;                   ///< runs in steps of few rows, too
  bool barrier[2] = {false, false};  ///< before it: in steps of few rows, in other steps
  std::array<Buffer, 2> buffers{};
  int32_t derived = -1;   ///< which derived value it makes or reads
  bool validate = false;  ///< indices are made by the tape itself: check them at the stage
};

/// A stage's counters fill whole cache lines.
constexpr size_t counters_of_stage(int workers) {
  return (static_cast<size_t>(workers) + 15) / 16 * 16;
}

/// State of one run, shared by the workers.
struct Run {
  const hadal_tape& tape;
  const hadal_step& step;
  const KernelTable& kernels;
  uint8_t* workspace;
  std::atomic<int32_t>* counters;  ///< of each stage, one a worker: tasks taken from its run
  int workers;
  bool few;
};

/// A stage as one worker runs it.
struct Call {
  const Run& run;
  const hadal_op& op;
  const Stage& stage;
  size_t index;  ///< of the stage
  Worker& worker;

  [[nodiscard]] host_chip::View view(uint32_t operand) const {
    return host_chip::view(run.tape, op.operands[operand], run.step);
  }
  [[nodiscard]] const KernelTable& kernels() const { return run.kernels; }
  /// The handle of a weight operand; and the numbers of one that is a vector, null if it is absent.
  [[nodiscard]] const Weight& weight(uint32_t operand) const {
    return *weight_of(view(operand).weight);
  }
  [[nodiscard]] const float* vector(uint32_t operand) const {
    const host_chip::View v = view(operand);
    return v.present() ? weight_of(v.weight)->values() : nullptr;
  }
  template <typename T>
  [[nodiscard]] T* buffer(size_t i) const {
    return reinterpret_cast<T*>(run.workspace + stage.buffers[i].at);
  }
  /// body(i) for i in [0, tasks), handed out among the workers. Each takes those of its own run in
  /// order, so that what it reads lies behind what it has read, then those that others have left.
  template <typename Body>
  void share(int64_t tasks, Body&& body) const {
    std::atomic<int32_t>* taken = run.counters + index * counters_of_stage(run.workers);
    for (int i = 0; i < run.workers; ++i) {
      const int owner = (worker.index + i) % run.workers;
      const int64_t from = tasks * owner / run.workers;
      const int64_t count = tasks * (owner + 1) / run.workers - from;
      while (taken[owner].load(std::memory_order_relaxed) < count) {
        const int64_t n = taken[owner].fetch_add(1, std::memory_order_relaxed);
        if (n < count) body(from + n);
      }
    }
  }
  /// The same for runs of rows: body(from, to). `grain`: fewest rows of a task.
  template <typename Body>
  void share_rows(int64_t rows, int64_t grain, Body&& body) const {
    grain = std::max(grain, rows / (int64_t{8} * run.workers));
    share((rows + grain - 1) / grain,
          [&](int64_t i) { body(i * grain, std::min(rows, (i + 1) * grain)); });
  }
  static constexpr int64_t kPiece = 1024;
  /// For operators that know no columns, on [rows, n]: body(row, from, to), pieces of at most
  /// kPiece numbers, whole vectors.
  template <typename Body>
  void share_pieces(int64_t rows, int64_t n, Body&& body) const {
    const int64_t pieces = (n + kPiece - 1) / kPiece;
    share_rows(rows * pieces, std::max<int64_t>(1, kPiece / std::max<int64_t>(n, 1)),
               [&](int64_t from, int64_t to) {
                 for (int64_t i = from; i < to; ++i) {
                   const int64_t column = i % pieces * kPiece;
                   body(i / pieces, column, std::min(n, column + kPiece));
                 }
               });
  }
};

/// An operator with its operands, rows at their limits. Weights may be unbound.
struct Query {
  const hadal_op& op;
  const hadal_tensor* tensors;
  const int64_t* limits;
  bool exact = false;  ///< of the device

  const hadal_tensor& operator[](uint32_t operand) const { return tensors[operand]; }
  [[nodiscard]] int64_t rows(uint32_t operand) const {
    return tensors[operand].extents[0] * limits[tensors[operand].row_dim];
  }
  /// Does a matmul by this weight round its activations?
  [[nodiscard]] bool rounds(uint32_t operand) const;
};

/// Memory that an operator needs beside its operands, in bytes, and what it rounds.
struct Needs {
  uint64_t temp = 0;       ///< of each worker, while a stage runs
  uint64_t workspace = 0;  ///< shared by the workers
  bool block8 = false;     ///< activations are rounded to int8 by blocks of kBlock
};

/// An operator in a step, before it runs: what range checks of indices look at.
struct Indices {
  const hadal_tape& tape;
  const hadal_op& op;
  const hadal_step& step;

  [[nodiscard]] host_chip::View view(uint32_t operand) const {
    return host_chip::view(tape, op.operands[operand], step);
  }
  /// "operand [i] is 7, outside [0, 5)", if so; else empty.
  [[nodiscard]] std::string outside(uint32_t operand, int64_t i, int64_t value, int64_t low,
                                    int64_t end) const;
  /// The first number of a rank 1 operand that is outside [low, end).
  [[nodiscard]] std::string in_range(uint32_t operand, int64_t low, int64_t end) const;
};

#define HADAL_RETURN_IF_TEXT(expr)                             \
  do {                                                         \
    if (std::string text = (expr); !text.empty()) return text; \
  } while (false)

class Planner;

struct Operator {
  uint32_t id = 0;
  void (*run)(const Call& call) = nullptr;
  Needs (*query)(const Query& query) = nullptr;  ///< null: nothing
  /// Indices within their ranges; an empty text if so. Null: the operator has no indices.
  std::string (*indices)(const Indices& indices) = nullptr;
  /// Pushes the operator's stages. `main` runs `run`. Null: that one stage.
  void (*plan)(Planner& planner, Stage main) = nullptr;
  /// The operand that says which matrices of its weights a step uses: offsets of rows, an expert
  /// without rows is not used. -1: all of them.
  int32_t chosen_by = -1;
};

}  // namespace hadal::cpu
