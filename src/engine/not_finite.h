// NotFiniteSink: runs a step operator by operator and finds the first that puts out NaN or
// infinity.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "ops/sink.h"
#include "weights/binder.h"

namespace hadal {

class NotFiniteSink final : public Sink {
 public:
  /// scratch and outputs: those of the step.
  NotFiniteSink(const Device& device, const hadal_step& step, uint32_t planes,
                const DeviceMemory& scratch, const DeviceMemory& outputs,
                const std::deque<Weight>& weights);
  void op(const hadal_op& op, std::span<const Tensor> tensors) override;

  /// "layer 3 (gqa_attention)", or "" while nothing was found.
  [[nodiscard]] const std::string& found() const { return found_; }
  /// Whether that operator reads a cache.
  [[nodiscard]] bool reads_cache() const { return reads_cache_; }
  [[nodiscard]] const Status& status() const { return status_; }

 private:
  [[nodiscard]] Result<bool> is_finite(const Tensor& out) const;

  const Device& device_;
  const hadal_step& step_;
  const DeviceMemory &scratch_, &outputs_;
  EagerSink run_;
  std::map<const hadal_weight*, std::string> names_;
  std::string place_ = "the embedding";  // by the weights met so far
  std::string found_;
  bool reads_cache_ = false;
  Status status_;
};

}  // namespace hadal
