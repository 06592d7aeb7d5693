// The GGUF container, versions 2 and 3: a whole header parsed and validated from bytes, without
// copying anything.
//
// Everything is read through one cursor that knows where the bytes end. What is returned has been
// checked: counts fit the file, strings and arrays lie inside it, keys and tensor names are unique,
// every tensor's type is known, its rows are whole blocks, its size does not overflow, its offset
// is aligned, and its bytes lie inside the file, overlap no other's and leave no gap beyond the
// alignment's. Refuses: version 1,
// big-endian files, headers beyond 128 MiB, arrays of arrays, unknown types. Called by gguf_open.cc
// and by the fuzz target. Format: ggml's docs/gguf.md.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/dtype.h"
#include "base/result.h"

namespace hadal {

/// Value types of GGUF metadata, by their numbers in the file.
enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

/// "uint32", "string", …
std::string_view gguf_type_name(GgufType type);

/// One metadata value: a view of its bytes in the file.
struct GgufValue {
  GgufType type = GgufType::kU8;  ///< never kArray: the elements' type for an array
  bool is_array = false;
  int64_t count = 1;  ///< elements of an array, else 1
  std::string_view
      payload;  ///< a string's bytes; the number; an array's elements one after the other

  /// A scalar of any integer type; nullopt if it is none or does not fit.
  [[nodiscard]] std::optional<int64_t> integer() const;
  /// A finite scalar of any number type.
  [[nodiscard]] std::optional<double> real() const;
  [[nodiscard]] std::optional<bool> boolean() const;
  [[nodiscard]] std::optional<std::string_view> text() const;
  /// An array of any integer type whose values fit.
  [[nodiscard]] std::optional<std::vector<int64_t>> integers() const;
  /// An array of finite numbers of any type.
  [[nodiscard]] std::optional<std::vector<double>> reals() const;
  /// "uint32 4096", "array of 151936 string": for messages.
  [[nodiscard]] std::string description() const;
  /// The value itself, or "[151936 strings]": for `inspect`.
  [[nodiscard]] std::string printed(size_t limit = 200) const;

  /// Element i as a finite number.
  [[nodiscard]] std::optional<double> real_at(int64_t i) const;
  /// Calls `each(string_view)` for the elements of an array of strings, until one call returns
  /// false.
  template <typename Each>
  void for_each_string(Each each) const {
    std::string_view rest = payload;
    for (int64_t i = 0; i < count; ++i) {
      const size_t length = string_length(rest);
      if (!each(rest.substr(8, length))) return;
      rest.remove_prefix(8 + length);
    }
  }

 private:
  static size_t string_length(std::string_view at);
};

struct GgufTensor {
  std::string_view name;
  DType dtype = HADAL_F32;
  std::vector<int64_t> shape;  ///< outermost first (the file has it the other way round)
  std::span<const std::byte> data;
};

/// A parsed header. All views point into the bytes given to parse_gguf.
struct GgufFile {
  uint32_t version = 0;
  std::vector<std::pair<std::string_view, GgufValue>> metadata;  ///< in file order
  std::unordered_map<std::string_view, size_t> by_key;           ///< into metadata
  std::vector<GgufTensor> tensors;                               ///< in file order

  [[nodiscard]] const GgufValue* find(std::string_view key) const;
};

/// Parses and validates. `origin` (the file's name) begins every message.
Result<GgufFile> parse_gguf(std::span<const std::byte> bytes, const std::string& origin);

}  // namespace hadal
