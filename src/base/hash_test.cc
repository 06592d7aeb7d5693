#include "base/hash.h"

#include <gtest/gtest.h>

namespace hadal {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST(Hash, Sha256IsThatOfTheStandard) {
  // FIPS 180-4's example, and of nothing.
  EXPECT_EQ(hex(Sha256().add(bytes_of("abc")).finish()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(Sha256().finish()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hex(Sha256().add(bytes_of("a")).add(bytes_of("bc")).finish(), 4), "ba7816bf");
}

TEST(Hash, ListsOfTextsDoNotRunTogether) {
  EXPECT_NE(Sha256().add("ab").add("c").finish(), Sha256().add("a").add("bc").finish());
}

TEST(Hash, ChecksumIsXxh3) {
  EXPECT_EQ(checksum({}), 0x2D06800538D394C2ULL);  // of xxHash's specification
  EXPECT_NE(checksum(bytes_of("a")), checksum(bytes_of("b")));
}

}  // namespace
}  // namespace hadal
