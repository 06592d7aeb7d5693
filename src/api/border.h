// The border of the C library: structs, texts and lists in and out, and what became of a call.
//
// Nothing but C crosses it: every entry runs in guarded(), which makes an error of whatever is
// thrown. A struct is read by the size that its caller wrote, and checked: too small, or larger
// than known with something in what is not known, is refused. Texts are checked to be UTF-8. Called
// by every file of this folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "base/result.h"
#include "hadal/hadal.h"

namespace hadal::api {

/// Fills `failure` (may be null, or have any size) and returns its code.
hadal_code report(hadal_failure* failure, hadal_code code, std::string_view text) noexcept;

/// Runs `body`, which gives a Status. A logic_error is a fault of ours.
template <typename Body>
hadal_code guarded(hadal_failure* failure, Body&& body) noexcept {
  try {
    const Status status = body();
    if (status) return HADAL_CODE_OK;
    return report(failure, static_cast<hadal_code>(status.error().code), status.error().message);
  } catch (const std::bad_alloc&) {
    return report(failure, HADAL_CODE_MEMORY, "no memory left");
  } catch (const std::logic_error& e) {
    return report(failure, HADAL_CODE_INTERNAL, e.what());
  } catch (const std::exception& e) {
    return report(failure, HADAL_CODE_FAILED, e.what());
  } catch (...) {
    return report(failure, HADAL_CODE_INTERNAL, "something unknown was thrown");
  }
}

/// Of a struct that the caller gave: its size against what is known. `least`: of its first version.
/// `given` has `size` bytes.
Status check_size(const void* given, uint32_t size, size_t least, size_t known, const char* name);

template <typename T>
Status check_struct(const T* given, const char* name) {
  if (!given) return usage_error(std::string(name) + " is NULL");
  return check_size(given, given->size, sizeof(T), sizeof(T), name);
}

/// A copy of a struct that must be there, zeros behind what the caller knew.
template <typename T>
Result<T> read_struct(const T* given, const char* name) {
  HADAL_TRY(check_struct(given, name));
  T known{};
  std::memcpy(&known, given, given->size < sizeof(T) ? given->size : sizeof(T));
  known.size = sizeof(T);
  return known;
}

/// The same, all zeros for NULL.
template <typename T>
Result<T> read_optional(const T* given, const char* name) {
  if (given) return read_struct(given, name);
  T zeros{};
  zeros.size = sizeof(T);
  return zeros;
}

/// Whether a struct may be filled.
template <typename T>
Status check_out(const T* out, const char* name) {
  if (!out) return usage_error(std::string(name) + " is NULL");
  if (out->size < sizeof(T) || out->size > sizeof(T) + 65536)
    return usage_error(std::string(name) + ".size is " + std::to_string(out->size) + ", at least " +
                       std::to_string(sizeof(T)) + " is expected: write sizeof(*" + name +
                       ") into it");
  return {};
}

/// Fills a struct that check_out has let pass: as much as its caller knows, zeros behind what is
/// known here.
template <typename T>
void write_struct(T* out, T value) {
  value.size = out->size;
  const size_t n = out->size < sizeof(T) ? out->size : sizeof(T);
  if (out->size > sizeof(T))
    std::memset(reinterpret_cast<char*>(out) + sizeof(T), 0, out->size - sizeof(T));
  std::memcpy(out, &value, n);
}

/// Copies of a list of structs, each of its own size.
template <typename T>
Result<std::vector<T>> read_list(const T* first, size_t count, const Limit& most,
                                 const char* name) {
  std::vector<T> list;
  if (count == 0) return list;
  if (!first) return usage_error(std::string(name) + " is NULL, and has a count");
  if (count > static_cast<uint64_t>(most.most))
    return usage_error(std::string(name) + " has " + std::to_string(count) + " entries, at most " +
                       std::to_string(most.most) + " may be");
  const char* at = reinterpret_cast<const char*>(first);
  for (size_t i = 0; i < count; ++i) {
    const T* given = reinterpret_cast<const T*>(at);
    const std::string entry = std::string(name) + "[" + std::to_string(i) + "]";
    HADAL_TRY(const T known, read_struct(given, entry.c_str()));
    list.push_back(known);
    at += given->size;
  }
  return list;
}

/// As much of a text as has room, in bytes, without half a character at its end.
std::string_view fitting(std::string_view text, size_t room);
/// A text that may be NULL, which is "". Errors: not UTF-8.
Result<std::string> read_text(const char* text, const char* name);
/// Texts of a list that a row of the limits bounds, each by another one.
Result<std::vector<std::string>> read_texts(const char* const* texts, size_t count,
                                            const Limit& most, const Limit& bytes,
                                            const char* name);
/// "name is 7, 0 to 4 is expected"
Status check_enum(uint32_t value, uint32_t most, const char* name);

}  // namespace hadal::api
