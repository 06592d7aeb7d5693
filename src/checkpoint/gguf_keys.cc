#include "checkpoint/gguf_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "checkpoint/printable.h"

namespace hadal {
namespace {

constexpr auto kArchitectures = std::to_array<Architecture>({
    // gguf, model_type, interleaved, experts, latent, v4, v41
    {"llama", "llama", true, false, false},
    {"qwen2", "qwen2", false, false, false},
    {"qwen3", "qwen3", false, false, false},
    {"deepseek", "deepseek", true, true, false},
    {"deepseek2", "deepseek_v3", true, true, true},  // or deepseek_v2: set_latent_keys
    {"deepseek32", "deepseek_v32", true, true, true},
    {"deepseek4", "deepseek_v4", true, true, false, true},
    {"deepseek41", "deepseek_v41", true, true, false, true, true},
});

}  // namespace

const Architecture* find_architecture(std::string_view gguf) {
  const auto it = std::find_if(kArchitectures.begin(), kArchitectures.end(),
                               [&](const auto& row) { return row.gguf == gguf; });
  return it == kArchitectures.end() ? nullptr : &*it;
}

const Architecture* gguf_architecture(std::string_view model_type) {
  if (model_type == "deepseek_v2") model_type = "deepseek_v3";  // one architecture for both
  const auto it = std::find_if(kArchitectures.begin(), kArchitectures.end(),
                               [&](const auto& row) { return row.model_type == model_type; });
  return it == kArchitectures.end() ? nullptr : &*it;
}

std::string GgufKeys::full(std::string_view key) const {
  return fmt::format("{}.{}", architecture_, key);
}

Error GgufKeys::error(std::string_view key, std::string_view text) const {
  return failed(fmt::format("{}: key {}: {}", origin_, quote(full(key)), text));
}

Result<std::string> GgufKeys::json(std::string_view key, GgufKind kind) const {
  const GgufValue& value = *find(key);
  const auto wrong = [&](std::string_view expected) {
    return error(key, fmt::format("expected {}, found {}", expected, value.description()));
  };
  if (kind == GgufKind::kBool) {
    const auto truth = value.boolean();
    if (!truth) return wrong("a bool");
    return std::string(*truth ? "true" : "false");
  }
  if (kind == GgufKind::kReal || (kind == GgufKind::kRealOrList && !value.is_array)) {
    const auto number = value.real();
    if (!number) return wrong("a finite number");
    return fmt::format("{}", *number);
  }
  if (kind == GgufKind::kRealOrList && value.is_array) {
    const auto list = value.reals();
    if (!list || list->empty()) return wrong("a list of numbers");
    if (!std::all_of(list->begin(), list->end(), [&](double v) { return v == list->front(); }))
      return wrong("the same number for all layers");
    return fmt::format("{}", list->front());
  }
  if ((kind == GgufKind::kIntegerOrList || kind == GgufKind::kIntegers) && value.is_array) {
    const auto list = value.integers();
    if (!list || list->empty()) return wrong("a list of whole numbers");
    if (kind == GgufKind::kIntegers) return fmt::format("[{}]", fmt::join(*list, ", "));
    // Most files that have a list have one number in it for all layers.
    if (std::all_of(list->begin(), list->end(), [&](int64_t v) { return v == list->front(); }))
      return fmt::format("{}", list->front());
    return fmt::format("[{}]", fmt::join(*list, ", "));
  }
  const auto number = value.integer();
  if (!number) return wrong("a whole number");
  return fmt::format("{}", *number);
}

Result<std::optional<int64_t>> GgufKeys::integer(std::string_view key, int64_t low,
                                                 int64_t high) const {
  const GgufValue* value = find(key);
  if (!value) return std::optional<int64_t>();
  const auto number = value->integer();
  if (!number || *number < low || *number > high)
    return error(key, fmt::format("expected a whole number from {} to {}, found {}", low, high,
                                  value->description()));
  return number;
}

Result<std::vector<int64_t>> GgufKeys::integers(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::vector<int64_t>();
  auto list = value->integers();
  if (!list)
    return error(key,
                 fmt::format("expected a list of whole numbers, found {}", value->description()));
  return *std::move(list);
}

Status GgufKeys::copy(std::span<const GgufKeyRow> rows, Config& config) const {
  for (const GgufKeyRow& row : rows) {
    if (!has(row.gguf)) continue;
    HADAL_TRY(const std::string text, json(row.gguf, row.kind));
    config.set(row.official, text);
  }
  return {};
}

}  // namespace hadal
