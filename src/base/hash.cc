#include "base/hash.h"

#include <openssl/evp.h>

#include "base/result.h"

// The functions themselves, not the library: nothing more to link.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace hadal {

struct Sha256::Context {
  EVP_MD_CTX* handle = EVP_MD_CTX_new();
  Context() = default;
  ~Context() { EVP_MD_CTX_free(handle); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  HADAL_CHECK(context_->handle && EVP_DigestInit_ex(context_->handle, EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() = default;

Sha256& Sha256::add(std::span<const std::byte> bytes) {
  HADAL_CHECK(EVP_DigestUpdate(context_->handle, bytes.data(), bytes.size()) == 1);
  return *this;
}

Sha256& Sha256::add(std::string_view text) {
  add(static_cast<uint64_t>(text.size()));
  return add(std::as_bytes(std::span(text)));
}

Sha256& Sha256::add(uint64_t number) {
  std::array<std::byte, sizeof number> bytes{};
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>((number >> (8 * i)) & 0xff);
  return add(bytes);
}

Digest Sha256::finish() {
  Digest digest{};
  unsigned int size = 0;
  HADAL_CHECK(EVP_DigestFinal_ex(context_->handle, reinterpret_cast<unsigned char*>(digest.data()),
                                 &size) == 1);
  HADAL_CHECK(size == digest.size());
  return digest;
}

std::string hex(const Digest& digest, size_t bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < bytes; ++i) {
    const auto value = std::to_integer<unsigned>(digest[i]);
    text += kDigits[value >> 4];
    text += kDigits[value & 15];
  }
  return text;
}

uint64_t checksum(std::span<const std::byte> bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace hadal
