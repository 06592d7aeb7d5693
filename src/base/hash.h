// Hashes: SHA-256 where a collision could hand out somebody else's data (OpenSSL), XXH3 where only
// accidents must be found (xxHash).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace hadal {

using Digest = std::array<std::byte, 32>;

/// SHA-256 (FIPS 180-4) of bytes that come in pieces.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  Sha256& add(std::span<const std::byte> bytes);
  /// A text and its length, so that no two lists of texts are the same bytes.
  Sha256& add(std::string_view text);
  Sha256& add(uint64_t number);
  /// The digest of what was added; nothing may be added behind it.
  [[nodiscard]] Digest finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

/// Lower-case hexadecimal digits of the first `bytes` bytes.
std::string hex(const Digest& digest, size_t bytes = sizeof(Digest));

/// XXH3, 64 bits.
uint64_t checksum(std::span<const std::byte> bytes, uint64_t seed = 0);

}  // namespace hadal
