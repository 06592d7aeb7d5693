#include "text/output/json_reader.h"

#include <algorithm>
#include <array>

#include "text/tokenizer/utf8.h"

namespace hadal {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// The code unit that \uXXXX at the front of `text` stands for. As much of it as there is counts:
/// kShort where the text ends within it.
Step code_unit(std::string_view text, uint32_t& code) {
  code = 0;
  for (size_t i = 0; i < std::min<size_t>(text.size(), 6); ++i) {
    const char c = text[i];
    const char lower = static_cast<char>(c | 0x20);
    const bool letter = lower >= 'a' && lower <= 'f';
    if (i == 0 ? c != '\\' : i == 1 ? c != 'u' : !is_digit(c) && !letter) return Step::kNever;
    if (i >= 2) code = code * 16 + static_cast<uint32_t>(letter ? lower - 'a' + 10 : c - '0');
  }
  return text.size() < 6 ? Step::kShort : Step::kDone;
}

/// The escape at the front of `text`; both halves of one that needs a surrogate pair.
Step escape(std::string_view text, size_t& bytes) {
  if (text.size() < 2) return Step::kShort;
  bytes = 2;
  if (text[1] != 'u')
    return std::string_view("\"\\/bfnrt").find(text[1]) == std::string_view::npos ? Step::kNever
                                                                                  : Step::kDone;
  bytes = 6;
  uint32_t code = 0;
  if (const Step step = code_unit(text, code); step != Step::kDone) return step;
  if (code < 0xD800 || code > 0xDFFF) return Step::kDone;
  if (code > 0xDBFF) return Step::kNever;
  bytes = 12;
  if (const Step step = code_unit(text.substr(6), code); step != Step::kDone) return step;
  return code >= 0xDC00 && code <= 0xDFFF ? Step::kDone : Step::kNever;
}

}  // namespace

Step JsonReader::read(std::string_view text, size_t& at) {
  while (!over_ && at < text.size()) {
    size_t bytes = 0;
    if (const Step step = unit(text.substr(at), bytes); step != Step::kDone) return step;
    at += bytes;
  }
  return over_ ? Step::kDone : Step::kShort;
}

/// Reads what cannot be cut: `bytes` of it.
Step JsonReader::unit(std::string_view rest, size_t& bytes) {
  if (want_ == Want::kInString) return string_unit(rest, bytes);
  const char c = rest.front();
  if (want_ == Want::kInNumber) return number_unit(c, bytes);
  if (want_ == Want::kValue || want_ == Want::kValueOrEnd) {
    if (open_.empty() || (c != ']' && std::string_view(" \t\r\n").find(c) == std::string::npos))
      return value_unit(rest, bytes);
  }
  bytes = 1;
  switch (c) {
    case ' ':
    case '\t':
    case '\r':
    case '\n':
      return Step::kDone;
    case '"':
      if (want_ != Want::kKey && want_ != Want::kKeyOrEnd) return Step::kNever;
      want_ = Want::kInString;
      key_ = true;
      return Step::kDone;
    case ':':
      if (want_ != Want::kColon) return Step::kNever;
      want_ = Want::kValue;
      return Step::kDone;
    case ',':
      if (want_ != Want::kCommaOrEnd) return Step::kNever;
      want_ = open_.back() == '{' ? Want::kKey : Want::kValue;
      return Step::kDone;
    case '}':
    case ']':
      return close(c);
    default:
      return Step::kNever;
  }
}

Step JsonReader::close(char bracket) {
  const bool object = open_.back() == '{';
  const Want empty = object ? Want::kKeyOrEnd : Want::kValueOrEnd;
  if (object != (bracket == '}') || (want_ != Want::kCommaOrEnd && want_ != empty))
    return Step::kNever;
  open_.pop_back();
  value_ends();
  return Step::kDone;
}

void JsonReader::value_ends() {
  over_ = open_.empty();
  want_ = Want::kCommaOrEnd;
}

Step JsonReader::value_unit(std::string_view rest, size_t& bytes) {
  const char c = rest.front();
  bytes = 1;
  if (c == '{' || c == '[') {
    open_ += c;
    want_ = c == '{' ? Want::kKeyOrEnd : Want::kValueOrEnd;
    return Step::kDone;
  }
  if (c == '"') {
    want_ = Want::kInString;
    key_ = false;
    return Step::kDone;
  }
  number_ = number_after(Number::kNone, c);
  if (number_ != Number::kNone) {
    want_ = Want::kInNumber;
    return Step::kDone;
  }
  constexpr std::array<std::string_view, 3> kLiterals = {"true", "false", "null"};
  for (const std::string_view literal : kLiterals) {
    if (rest.size() < literal.size() && literal.starts_with(rest)) return Step::kShort;
    if (!rest.starts_with(literal)) continue;
    bytes = literal.size();
    value_ends();
    return Step::kDone;
  }
  return Step::kNever;
}

Step JsonReader::string_unit(std::string_view rest, size_t& bytes) {
  const char c = rest.front();
  bytes = 1;
  if (c == '"') {
    if (key_)
      want_ = Want::kColon;
    else
      value_ends();
    return Step::kDone;
  }
  if (c == '\\') return escape(rest, bytes);
  if (static_cast<unsigned char>(c) < 0x20) return Step::kNever;
  const Utf8Step step = utf8_step(rest);
  bytes = step.bytes;
  return step.kind == Utf8Step::kValid        ? Step::kDone
         : step.kind == Utf8Step::kIncomplete ? Step::kShort
                                              : Step::kNever;
}

/// A number ends with what is no more of it.
Step JsonReader::number_unit(char c, size_t& bytes) {
  const Number next = number_after(number_, c);
  bytes = next == Number::kNone ? 0 : 1;
  if (next == Number::kNone) {
    if (number_ != Number::kZero && number_ != Number::kInteger && number_ != Number::kFraction &&
        number_ != Number::kExponentDigits)
      return Step::kNever;
    value_ends();
  }
  number_ = next;
  return Step::kDone;
}

/// Where a number stands behind `c`; kNone where `c` is no part of it.
JsonReader::Number JsonReader::number_after(Number before, char c) {
  const bool digit = is_digit(c), exponent = c == 'e' || c == 'E';
  switch (before) {
    case Number::kNone:
      if (c == '-') return Number::kMinus;
      [[fallthrough]];
    case Number::kMinus:
      return c == '0' ? Number::kZero : digit ? Number::kInteger : Number::kNone;
    case Number::kZero:
    case Number::kInteger:
      if (digit && before == Number::kInteger) return Number::kInteger;
      return c == '.' ? Number::kPoint : exponent ? Number::kExponent : Number::kNone;
    case Number::kPoint:
    case Number::kFraction:
      if (digit) return Number::kFraction;
      return exponent && before == Number::kFraction ? Number::kExponent : Number::kNone;
    case Number::kExponent:
      if (c == '+' || c == '-') return Number::kExponentSign;
      [[fallthrough]];
    case Number::kExponentSign:
    case Number::kExponentDigits:
      return digit ? Number::kExponentDigits : Number::kNone;
  }
  return Number::kNone;
}

}  // namespace hadal
