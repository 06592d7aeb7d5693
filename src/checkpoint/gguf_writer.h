// GgufWriter: the header of a GGUF file, version 3: metadata and tensor infos.
//
// Tensors lie in the order in which they were added, each at a multiple of the alignment. The bytes
// of the tensors are the caller's: it writes header(), then every tensor and padding(bytes) behind
// it. Format: ggml's docs/gguf.md. Called by src/quantize.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "checkpoint/gguf.h"

namespace hadal {

class GgufWriter {
 public:
  static constexpr int64_t kAlignment = 32;

  void add_u32(std::string_view key, int64_t value);
  void add_f32(std::string_view key, double value);
  void add_bool(std::string_view key, bool value);
  void add_text(std::string_view key, std::string_view value);
  void add_texts(std::string_view key, std::span<const std::string> values);
  void add_i32s(std::string_view key, std::span<const int64_t> values);
  void add_f32s(std::string_view key, std::span<const double> values);
  /// A value of another file as it is.
  void copy(std::string_view key, const GgufValue& value);

  /// shape: outermost first, its last a whole number of blocks of a type that GGUF has.
  void add_tensor(std::string_view name, DType dtype, std::span<const int64_t> shape);

  [[nodiscard]] std::string header() const;
  /// Bytes of all tensors, padding included.
  [[nodiscard]] int64_t data_bytes() const { return data_bytes_; }
  /// Bytes between the end of something so large and the next multiple of the alignment.
  static int64_t padding(int64_t bytes) { return (kAlignment - bytes % kAlignment) % kAlignment; }

 private:
  void begin(std::string_view key, GgufType type);
  void begin_array(std::string_view key, GgufType type, size_t count);

  std::string metadata_, infos_;
  uint64_t keys_ = 0, tensors_ = 0;
  int64_t data_bytes_ = 0;
};

}  // namespace hadal
