#include "runtime/fetch_ahead.h"

#include <sys/resource.h>

#include <algorithm>

#include "base/file.h"
#include "contract/operators.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

constexpr uint64_t kAheadBytes = uint64_t{64} << 20;
constexpr uint32_t kAheadOperators = 8;  ///< from the first matmul of an expert to its last

/// Asks for the rows [first, last) where they lie.
void ask(const Weight& w, int64_t first, int64_t last) {
  for (const NativeRows& part : w.native) {
    const int64_t from = std::max(first, part.first) - part.first,
                  to = std::min(last - part.first, part.rows);
    if (from >= to) continue;
    const auto stretch = [](const std::byte* data, int64_t stride, int64_t begin, int64_t end) {
      fetch_ahead({data + begin * stride, static_cast<size_t>((end - begin) * stride)});
    };
    stretch(part.data, part.stride, from, to);
    if (part.scales) {
      const int64_t block = w.desc.scale_block_rows;
      stretch(part.scales, part.scale_stride, from / block, (to + block - 1) / block);
    }
  }
}

/// body(weight) for the matrices of an operator that are multiplied from a file.
template <typename Body>
void each_mapped(const hadal_tape& tape, uint32_t op, Body&& body) {
  for (const int32_t operand : tape.ops[op].operands) {
    if (operand < 0 || tape.tensors[operand].space != HADAL_SPACE_WEIGHT) continue;
    const Weight& w = *weight_of(tape.tensors[operand].weight);
    if ((w.desc.uses & HADAL_USE_MATMUL) != 0 && !w.native.empty() && !w.native_copy.data())
      body(w);
  }
}

uint64_t whole_bytes(const hadal_tape& tape, uint32_t op) {
  uint64_t bytes = 0;
  each_mapped(tape, op, [&](const Weight& w) {
    bytes += static_cast<uint64_t>(w.desc.batch * w.desc.rows * w.native.front().stride);
  });
  return bytes;
}

}  // namespace

int64_t faults_from_disk() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_majflt;
}

void FetchAhead::begin(uint32_t op) {
  if (!on_) return;
  for (; begun_ <= op; ++begun_)
    if (row(begun_).chosen_by < 0) begun_bytes_ += whole_bytes(tape_, begun_);
  for (asked_ = std::max(asked_, op);
       asked_ < tape_.op_count && asked_bytes_ < begun_bytes_ + kAheadBytes; ++asked_) {
    if (row(asked_).chosen_by >= 0) continue;
    each_mapped(tape_, asked_, [](const Weight& w) { ask(w, 0, w.desc.batch * w.desc.rows); });
    asked_bytes_ += whole_bytes(tape_, asked_);
  }
  if (row(op).chosen_by >= 0 && op >= asked_experts_) ask_experts(op);
}

void FetchAhead::ask_experts(uint32_t op) {
  const int32_t chosen = row(op).chosen_by, by = tape_.ops[op].operands[chosen];
  const View offset = host_chip::view(tape_, by, step_);
  const uint32_t end = std::min(tape_.op_count, op + kAheadOperators);
  for (uint32_t i = op; i < end; ++i) {  // in the order of use
    if (row(i).chosen_by < 0 || tape_.ops[i].operands[row(i).chosen_by] != by) continue;
    each_mapped(tape_, i, [&](const Weight& w) {
      for (int64_t e = 0; e < w.desc.batch; ++e)
        if (*offset.row<int32_t>(e) < *offset.row<int32_t>(e + 1))
          ask(w, e * w.desc.rows, (e + 1) * w.desc.rows);
    });
  }
  asked_experts_ = end;
}

}  // namespace hadal::cpu
