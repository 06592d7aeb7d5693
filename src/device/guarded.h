// What is lent to a plug-in to be filled.
#pragma once

#include <algorithm>
#include <array>

namespace hadal {

/// A struct that a chip fills, and bytes behind it that it must leave alone.
template <typename T>
struct Guarded {
  T value{};
  std::array<unsigned char, 256> guard{};
  Guarded() {
    value.size = sizeof(T);
    guard.fill(0xa5);
  }
  [[nodiscard]] bool kept() const {
    return std::all_of(guard.begin(), guard.end(), [](unsigned char b) { return b == 0xa5; });
  }
};

}  // namespace hadal
