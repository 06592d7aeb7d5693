// Result<T> and Error: how everything that comes from outside (file, request, plug-in, option)
// reports failure.
//
// Owns the error codes and the one macro HADAL_TRY. The names follow std::expected, which the
// compilers of Debian 12 lack. What only a mistake of ours can cause is HADAL_CHECK: it throws
// std::logic_error, which the C library and the programs catch at their border, so that the process
// that embeds us lives on.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

namespace hadal {

/// What kind of failure it is. The values are the exit codes of the hadal program.
enum class ErrorCode : int32_t {
  kFailed = 1,         ///< unreadable or broken file, unknown architecture, failed device
  kUsage = 2,          ///< wrong option or argument, an id outside the vocabulary
  kMemory = 3,         ///< memory or context too small
  kNotFound = 4,       ///< path or name not found
  kBusy = 5,           ///< too much is waiting: try again later
  kInterrupted = 130,  ///< stopped by the user
};

/// A setting that an error is about: a program adds how its user says it (a flag, a field).
enum class Setting : int32_t {
  kNone,
  kContext,    ///< Error::suggestion: tokens that would fit
  kCacheBf16,  ///< a cache type with fp32's range would help
  kTailRows,   ///< rows of a prompt that a model's tail runs
};

/// An error names the thing, what was expected, what was found, and the remedy, in one line.
struct Error {
  ErrorCode code = ErrorCode::kFailed;
  std::string message;
  Setting setting = Setting::kNone;
  int64_t suggestion = 0;
};

inline Error failed(std::string message) {
  return {.code = ErrorCode::kFailed, .message = std::move(message)};
}
inline Error usage_error(std::string message) {
  return {.code = ErrorCode::kUsage, .message = std::move(message)};
}
inline Error memory_error(std::string message) {
  return {.code = ErrorCode::kMemory, .message = std::move(message)};
}
inline Error not_found(std::string message) {
  return {.code = ErrorCode::kNotFound, .message = std::move(message)};
}

/// A value or an Error; [[nodiscard]], so that no failure is dropped by accident.
template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T v) : state_(std::in_place_index<0>, std::move(v)) {}  // NOLINT: implicit on purpose
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  [[nodiscard]] bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }
  T& value() & { return check_value(), *std::get_if<0>(&state_); }
  const T& value() const& { return check_value(), *std::get_if<0>(&state_); }
  T&& value() && { return check_value(), std::move(*std::get_if<0>(&state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  [[nodiscard]] const Error& error() const& { return *std::get_if<1>(&state_); }
  Error&& error() && { return std::move(*std::get_if<1>(&state_)); }

 private:
  void check_value() const {
    if (!has_value()) throw std::logic_error("value() of a failed Result: " + error().message);
  }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT
  [[nodiscard]] bool has_value() const { return !error_; }
  explicit operator bool() const { return has_value(); }
  void value() const {
    if (error_) throw std::logic_error("value() of a failed Result: " + error_->message);
  }
  [[nodiscard]] const Error& error() const& { return *error_; }
  Error&& error() && { return std::move(*error_); }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

[[noreturn]] inline void check_failed(const char* file, int line, const char* what) {
  throw std::logic_error(std::string(file) + ":" + std::to_string(line) +
                         ": internal error: " + what);
}

}  // namespace hadal

#define HADAL_CONCAT_INNER(a, b) a##b
#define HADAL_CONCAT(a, b) HADAL_CONCAT_INNER(a, b)

/// HADAL_TRY(expr): returns the error from the enclosing function if expr failed.
/// HADAL_TRY(auto x, expr): and binds the value otherwise.
#define HADAL_TRY_STATUS(expr)                             \
  do {                                                     \
    if (auto hadal_try_result = (expr); !hadal_try_result) \
      return std::move(hadal_try_result).error();          \
  } while (false)
#define HADAL_TRY_VALUE(decl, expr) \
  HADAL_TRY_VALUE_INNER(decl, expr, HADAL_CONCAT(hadal_try_, __LINE__))
#define HADAL_TRY_VALUE_INNER(decl, expr, tmp) \
  auto tmp = (expr);                           \
  if (!(tmp)) return std::move(tmp).error();   \
  decl = *std::move(tmp)
#define HADAL_TRY_PICK(_1, _2, name, ...) name
#define HADAL_TRY(...) \
  HADAL_TRY_PICK(__VA_ARGS__, HADAL_TRY_VALUE, HADAL_TRY_STATUS, 0)(__VA_ARGS__)

#define HADAL_CHECK(cond)                               \
  do {                                                  \
    if (!(cond)) [[unlikely]]                           \
      ::hadal::check_failed(__FILE__, __LINE__, #cond); \
  } while (false)
