// The limits of a request: every number that one may hold, in one table.
//
// Owns the lowest and highest of each, whether it is whole, what it is when left out, and its unit.
// The engine checks what reaches it against these rows, and so does every reader of requests; a
// number is added here first. It lies on the lowest floor because text, engine and programs all
// read it.
//
// What costs memory or time before a request is admitted (n, lists, texts, the body's bytes, its
// depth) is bounded here as well, so that no number in a small body can ask for a large amount of
// work.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hadal {

/// What a row counts.
enum class LimitOf : uint8_t {
  kNumber,  ///< the field's value
  kItems,   ///< entries of the list or object
  kBytes,   ///< bytes of a text
  kBody,    ///< something of the body as a whole
};

struct Limit {
  std::string_view name;  ///< as on the wire; "stop[]" is an entry of the list stop
  LimitOf of = LimitOf::kNumber;
  bool whole = false;
  double low = 0, high = 0;             ///< both allowed; of whole numbers the nearest doubles
  int64_t least = 0, most = 0;          ///< the same of whole numbers, exact
  std::optional<double> standard = {};  ///< what holds where the field is left out; none: `unit`
                                        ///< says, or the field has no effect
  std::string_view unit = {};           ///< and what is particular
};

namespace detail {

constexpr Limit real(std::string_view name, double low, double high, std::optional<double> standard,
                     std::string_view unit) {
  return {.name = name, .low = low, .high = high, .standard = standard, .unit = unit};
}

constexpr Limit whole(std::string_view name, int64_t least, int64_t most,
                      std::optional<double> standard, std::string_view unit,
                      LimitOf of = LimitOf::kNumber) {
  return {.name = name,
          .of = of,
          .whole = true,
          .low = static_cast<double>(least),
          .high = static_cast<double>(most),
          .least = least,
          .most = most,
          .standard = standard,
          .unit = unit};
}

constexpr int64_t kMostTokens = int64_t{1} << 24;
constexpr std::string_view kUsual = "what is recommended for the model";

}  // namespace detail

inline constexpr Limit kLimits[] = {
    // How the next token is chosen. The engine's arithmetic holds these; the hosted APIs stop at 2.
    detail::real("temperature", 0, 100, {}, detail::kUsual),
    detail::real("top_p", 0, 1, {}, detail::kUsual),
    detail::whole("top_k", -1, INT32_MAX, {}, "tokens; 0 and -1 are off"),
    detail::real("min_p", 0, 1, {}, detail::kUsual),
    detail::real("presence_penalty", -100, 100, {}, detail::kUsual),
    detail::real("frequency_penalty", -100, 100, {}, detail::kUsual),
    detail::real("repetition_penalty", 0.01, 100, {}, detail::kUsual),
    detail::whole("seed", INT64_MIN, INT64_MAX, {}, "left out, or -1: drawn by the machine"),
    detail::whole("logit_bias", 0, 1024, 0, "tokens", LimitOf::kItems),
    detail::whole("logit_bias id", 0, INT32_MAX, {}, "a token's id"),
    detail::real("logit_bias[]", -100, 100, {}, "added to a token's logit"),
    // How much is generated, and where it ends.
    detail::whole("n", 1, 128, 1, "answers"),
    detail::whole("max_tokens", 1, detail::kMostTokens, {}, "tokens; until the context is full"),
    detail::whole("max_completion_tokens", 1, detail::kMostTokens, {}, "tokens, as max_tokens"),
    detail::whole("thinking_token_budget", 0, detail::kMostTokens, {}, "tokens of a thought"),
    detail::whole("reasoning_effort", 1, 100, {}, "where it is a number"),
    detail::whole("stop", 0, 64, 0, "texts", LimitOf::kItems),
    detail::whole("stop[]", 1, 1024, {}, "bytes", LimitOf::kBytes),
    detail::whole("stop_token_ids", 0, 64, 0, "ids", LimitOf::kItems),
    detail::whole("stop_token_ids[]", 0, INT32_MAX, {}, "a token's id"),
    detail::whole("bad_words", 0, 256, 0, "texts", LimitOf::kItems),
    detail::whole("bad_words[]", 1, 1024, {}, "bytes", LimitOf::kBytes),
    detail::whole("max_output_tokens", 1, detail::kMostTokens, {},
                  "tokens, as max_tokens; of /v1/responses"),
    detail::whole("max_tool_calls", 1, INT32_MAX, {}, "calls of hosted tools, of which none are"),
    // Of Ollama's options.
    detail::whole("num_predict", -2, detail::kMostTokens, -1,
                  "tokens; 0, -1 and -2: until the context is full"),
    detail::whole("num_ctx", 0, INT32_MAX, {}, "tokens; no more than the server's context"),
    detail::whole("repeat_last_n", -1, INT32_MAX, -1, "tokens; 0: no penalties; -1: all"),
    // What comes with it: of the chat API, and the legacy completions' number.
    detail::whole("top_logprobs", 0, 20, 0, "tokens"),
    detail::whole("logprobs", 0, 20, {}, "tokens; of /v1/completions"),
    // When it runs.
    detail::whole("priority", INT32_MIN, INT32_MAX, 0, "the smaller runs first"),
    detail::real("timeout", 0.001, 86400, {}, "seconds, queueing included"),
    // What goes in.
    detail::whole("messages", 1, 16384, {}, "messages", LimitOf::kItems),
    detail::whole("messages[].content", 0, 4096, {}, "parts", LimitOf::kItems),
    detail::whole("messages[].tool_calls", 0, 256, 0, "calls", LimitOf::kItems),
    detail::whole("tools", 0, 1024, 0, "tools", LimitOf::kItems),
    detail::whole("tools[].function.name", 1, 128, {}, "bytes", LimitOf::kBytes),
    detail::whole("structured_outputs.choice", 1, 1024, {}, "texts", LimitOf::kItems),
    detail::whole("structured_outputs.regex", 1, 65536, {}, "bytes", LimitOf::kBytes),
    detail::whole("structured_outputs.grammar", 1, int64_t{1} << 20, {}, "bytes", LimitOf::kBytes),
    detail::whole("prompt", 1, 2048, {}, "prompts, where it is a list", LimitOf::kItems),
    detail::whole("prompt[]", 1, int64_t{1} << 21, {}, "ids of all prompts together",
                  LimitOf::kItems),
    detail::whole("prompt[][]", 0, INT32_MAX, {}, "a token's id"),
    detail::whole("choices", 1, 2048, {}, "prompts times n", LimitOf::kBody),
    detail::whole("model", 0, 512, {}, "bytes", LimitOf::kBytes),
    detail::whole("cache_salt", 1, 512, {}, "bytes", LimitOf::kBytes),
    detail::whole("custom_id", 1, 512, {}, "bytes; of a batch file", LimitOf::kBytes),
    detail::whole("input", 1, 16384, {}, "items, with those before; of /v1/responses",
                  LimitOf::kItems),
    detail::whole("input[].content", 0, 4096, {}, "parts", LimitOf::kItems),
    detail::whole("previous_response_id", 1, 512, {}, "bytes", LimitOf::kBytes),
    detail::whole("metadata", 0, 16, 0, "entries; of /v1/responses", LimitOf::kItems),
    detail::whole("metadata[]", 0, 2048, {}, "bytes, of a key or a text", LimitOf::kBytes),
    // The body itself.
    detail::whole("body", 0, int64_t{32} << 20, {}, "bytes", LimitOf::kBody),
    detail::whole("depth", 0, 64, {}, "levels of brackets", LimitOf::kBody),
    detail::whole("fields", 0, 2048, {}, "keys of one object", LimitOf::kBody),
    detail::whole("values", 0, 262144, {}, "values, but for ids of prompts", LimitOf::kBody),
};

/// The row of that name. A name that the table lacks does not compile.
consteval const Limit& limit(std::string_view name) {
  for (const Limit& row : kLimits)
    if (row.name == name) return row;
  throw "the table of limits has no such row";
}

namespace detail {

/// A number as people write it: 0.01, not 0.010000.
inline std::string plain(double value, int digits = 9) {
  if (value == std::floor(value) && std::fabs(value) < 1e15)
    return std::to_string(static_cast<int64_t>(value));
  char text[32];
  std::snprintf(text, sizeof text, "%.*g", digits, value);
  return text;
}

inline std::string expected(const Limit& row) {
  const std::string what = row.of == LimitOf::kItems   ? " entries"
                           : row.of == LimitOf::kBytes ? " bytes"
                                                       : "";
  const std::string low = row.whole ? std::to_string(row.least) : plain(row.low);
  const std::string high = row.whole ? std::to_string(row.most) : plain(row.high);
  const std::string kind = !what.empty() ? ""
                           : row.whole   ? "a whole number from "
                                         : "a number from ";
  return kind + low + " to " + high + what + (what.empty() ? " is expected" : " are expected");
}

}  // namespace detail

/// Errors: kUsage, "`path`: 101 was found, a number from 0 to 100 is expected". `path` is where the
/// number stands; "" for the row's own name.
inline Status check_limit(const Limit& row, int64_t value, std::string_view path = {}) {
  if (value >= row.least && value <= row.most) return {};
  return usage_error(std::string(path.empty() ? row.name : path) + ": " + std::to_string(value) +
                     (row.of == LimitOf::kItems   ? " entries were found, "
                      : row.of == LimitOf::kBytes ? " bytes were found, "
                                                  : " was found, ") +
                     detail::expected(row));
}

/// NaN is outside of every range.
inline Status check_limit(const Limit& row, double value, std::string_view path = {}) {
  if (value >= row.low && value <= row.high) return {};
  return usage_error(std::string(path.empty() ? row.name : path) + ": " + detail::plain(value) +
                     " was found, " + detail::expected(row));
}

/// Against the bounds as a float holds them: what was a number at the bound still is.
inline Status check_limit(const Limit& row, float value, std::string_view path = {}) {
  if (value >= static_cast<float>(row.low) && value <= static_cast<float>(row.high)) return {};
  return usage_error(std::string(path.empty() ? row.name : path) + ": " +
                     detail::plain(static_cast<double>(value), 7) + " was found, " +
                     detail::expected(row));
}

}  // namespace hadal
