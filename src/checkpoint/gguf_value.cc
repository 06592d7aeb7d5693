// Metadata values of a GGUF file: from bytes to numbers and texts.
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstring>

#include "checkpoint/gguf.h"
#include "checkpoint/printable.h"

namespace hadal {
namespace {

template <typename T>
T load(std::string_view bytes, int64_t index) {
  T value{};
  std::memcpy(&value, bytes.data() + static_cast<size_t>(index) * sizeof value, sizeof value);
  return value;
}

/// Element `i` as a whole number; nullopt for other types and for what does not fit.
std::optional<int64_t> integer_at(GgufType type, std::string_view payload, int64_t i) {
  switch (type) {
    case GgufType::kU8:
      return load<uint8_t>(payload, i);
    case GgufType::kI8:
      return load<int8_t>(payload, i);
    case GgufType::kU16:
      return load<uint16_t>(payload, i);
    case GgufType::kI16:
      return load<int16_t>(payload, i);
    case GgufType::kU32:
      return load<uint32_t>(payload, i);
    case GgufType::kI32:
      return load<int32_t>(payload, i);
    case GgufType::kI64:
      return load<int64_t>(payload, i);
    case GgufType::kU64: {
      const auto value = load<uint64_t>(payload, i);
      if (value > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

/// Element `i` as it would be written in JSON.
std::string text_at(GgufType type, std::string_view payload, int64_t i) {
  if (type == GgufType::kF32) return fmt::format("{}", load<float>(payload, i));
  if (type == GgufType::kF64) return fmt::format("{}", load<double>(payload, i));
  if (type == GgufType::kBool) return payload[static_cast<size_t>(i)] != 0 ? "true" : "false";
  if (type == GgufType::kU64) return fmt::format("{}", load<uint64_t>(payload, i));
  const auto number = integer_at(type, payload, i);
  return number ? fmt::format("{}", *number) : "?";
}

}  // namespace

std::optional<int64_t> GgufValue::integer() const {
  return is_array ? std::nullopt : integer_at(type, payload, 0);
}

std::optional<double> GgufValue::real_at(int64_t i) const {
  double value = 0;
  if (type == GgufType::kF32) {
    // 1e-05f is meant as 1e-5: the shortest decimal that gives this float, so that GGUF and
    // config.json say the same.
    const float stored = load<float>(payload, i);
    const std::string shortest = fmt::format("{}", stored);
    const auto parsed = std::from_chars(shortest.data(), shortest.data() + shortest.size(), value);
    if (parsed.ec != std::errc{}) value = static_cast<double>(stored);
  } else if (type == GgufType::kF64) {
    value = load<double>(payload, i);
  } else if (const auto whole = integer_at(type, payload, i)) {
    value = static_cast<double>(*whole);
  } else {
    return std::nullopt;
  }
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

std::optional<double> GgufValue::real() const { return is_array ? std::nullopt : real_at(0); }

std::optional<std::vector<double>> GgufValue::reals() const {
  if (!is_array) return std::nullopt;
  std::vector<double> out;
  for (int64_t i = 0; i < count; ++i) {
    const auto value = real_at(i);
    if (!value) return std::nullopt;
    out.push_back(*value);
  }
  return out;
}

std::optional<bool> GgufValue::boolean() const {
  if (is_array || type != GgufType::kBool) return std::nullopt;
  return payload[0] != 0;
}

std::optional<std::string_view> GgufValue::text() const {
  if (is_array || type != GgufType::kString) return std::nullopt;
  return payload;
}

std::optional<std::vector<int64_t>> GgufValue::integers() const {
  if (!is_array) return std::nullopt;
  std::vector<int64_t> out;
  for (int64_t i = 0; i < count; ++i) {
    const auto value = integer_at(type, payload, i);
    if (!value) return std::nullopt;
    out.push_back(*value);
  }
  return out;
}

std::string GgufValue::description() const {
  if (is_array) return fmt::format("an array of {} {} values", count, gguf_type_name(type));
  if (type == GgufType::kString) return "the string " + quote(payload, 60);
  return fmt::format("{} {}", gguf_type_name(type), text_at(type, payload, 0));
}

std::string GgufValue::printed(size_t limit) const {
  if (!is_array)
    return type == GgufType::kString ? printable(payload, limit) : text_at(type, payload, 0);
  constexpr int64_t kShown = 16;
  if (type == GgufType::kString || count > kShown)
    return fmt::format("[{} {}s]", count, gguf_type_name(type));
  std::string out = "[";
  for (int64_t i = 0; i < count; ++i) out += (i > 0 ? ", " : "") + text_at(type, payload, i);
  return out + "]";
}

}  // namespace hadal
