// JSON that comes in parts: where a value ends, and whether it is one. Internal to text/output.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "text/output/step.h"

namespace hadal {

/// Reads one JSON value (RFC 8259, strict; depth and numbers of any size) that may come in parts.
class JsonReader {
 public:
  /// Reads on behind `at`, which moves over whole characters, escapes and literals of the value.
  /// `text`: the value's and what follows it; must begin with the value at the first call.
  Step read(std::string_view text, size_t& at);

 private:
  enum class Want : uint8_t {
    kValue,
    kValueOrEnd,
    kKey,
    kKeyOrEnd,
    kColon,
    kCommaOrEnd,
    kInString,
    kInNumber
  };
  enum class Number : uint8_t {
    kNone,
    kMinus,
    kZero,
    kInteger,
    kPoint,
    kFraction,
    kExponent,
    kExponentSign,
    kExponentDigits
  };
  static Number number_after(Number before, char c);

  Step unit(std::string_view rest, size_t& bytes);
  Step string_unit(std::string_view rest, size_t& bytes);
  Step number_unit(char c, size_t& bytes);
  Step value_unit(std::string_view rest, size_t& bytes);
  Step close(char bracket);
  void value_ends();

  Want want_ = Want::kValue;
  Number number_ = Number::kNone;
  std::string open_;  ///< brackets
  bool key_ = false;  ///< of kInString: it is an object's key
  bool over_ = false;
};

}  // namespace hadal
