// What every chip does at the border: fills an error, copies a struct that begins with its size.
#pragma once

#include <cstdint>
#include <exception>
#include <new>
#include <string_view>

#include "hadal/chip.h"

namespace hadal::contract {

/// Writes `text` to `error` (may be null), cut at its size, and returns `status`.
hadal_status report(hadal_error* error, hadal_status status, std::string_view text);

/// Copies `from` to `*out`, at most as many bytes as out->size says, and keeps that size.
template <typename T>
void copy_sized(T* out, const T& from) {
  const uint32_t size = out->size;
  const size_t n = size < sizeof(T) ? size : sizeof(T);
  __builtin_memcpy(out, &from, n);
  out->size = size;
}

/// Runs `body`; what it throws becomes a status: nothing may cross the border.
template <typename Body>
hadal_status guarded(hadal_error* error, Body&& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return report(error, HADAL_OUT_OF_MEMORY, "no memory left");
  } catch (const std::exception& e) {
    return report(error, HADAL_DEVICE_FAILED, e.what());
  }
}

/// `from`, of which only from->size bytes are there, with zeros behind them; null gives zeros.
template <typename T>
T read_sized(const T* from) {
  T known{};
  if (from) __builtin_memcpy(&known, from, from->size < sizeof(T) ? from->size : sizeof(T));
  known.size = sizeof(T);
  return known;
}

}  // namespace hadal::contract
