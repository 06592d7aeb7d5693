// Vocab: the model's vocabulary, token <-> id, as flat tables; and the alphabet of byte-level BPE
// (GPT-2's bytes_to_unicode).
//
// Owns the strings (one block). Refuses ids outside [0, kMaxTokenId], an id given twice and a token
// given twice, by name. Called by the builders (load_json.cc, load_gguf.cc), the BPE model and the
// tokenizer.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hadal {

/// The largest id that is believed. The largest vocabularies known end near 262,144; a table of
/// this many ids takes 32 MiB.
inline constexpr int64_t kMaxTokenId = (int64_t{1} << 21) - 1;

class Vocab {
 public:
  void reserve(size_t tokens, size_t bytes);
  /// Errors: an id out of range or taken.  A token that is there keeps its first id if
  /// `first_wins`, else it is an error.
  Status add(std::string_view token, int64_t id, bool first_wins = false);

  [[nodiscard]] std::optional<int32_t> find(std::string_view token) const;
  /// "" for an id that has no token.
  [[nodiscard]] std::string_view token(int64_t id) const;
  [[nodiscard]] bool has(int64_t id) const {
    return id >= 0 && id < size() && spans_[static_cast<size_t>(id)].length != kNone;
  }
  [[nodiscard]] int64_t size() const {
    return static_cast<int64_t>(spans_.size());
  }  ///< largest id + 1
  [[nodiscard]] int64_t count() const { return count_; }  ///< tokens

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Span {
    uint64_t begin = 0;
    uint32_t length = kNone;
  };
  struct Slot {
    uint32_t hash = 0;
    int32_t id = -1;
  };
  void grow(size_t tokens);

  std::string bytes_;
  std::vector<Span> spans_;  // by id
  std::vector<Slot> slots_;  // open addressing, a power of two
  int64_t count_ = 0;
};

/// The alphabet of byte-level BPE: every byte is one visible character.
class ByteAlphabet {
 public:
  static const ByteAlphabet& get();
  [[nodiscard]] std::string_view character(unsigned char byte) const {
    return {characters_[byte].data(), lengths_[byte]};
  }
  /// The byte that a character stands for, -1 if it is none of the 256.
  [[nodiscard]] int byte(char32_t code) const { return code < bytes_.size() ? bytes_[code] : -1; }
  [[nodiscard]] std::string spelled(std::string_view bytes) const;
  /// The bytes of a token; what is not in the alphabet: the whole token as it is, as the library's
  /// decoder does.
  [[nodiscard]] std::string bytes(std::string_view token) const;

 private:
  ByteAlphabet();
  std::array<std::array<char, 2>, 256> characters_{};
  std::array<uint8_t, 256> lengths_{};
  std::array<int16_t, 0x144> bytes_{};
};

/// A hash for short keys: eight bytes a step, multiply and fold.
[[nodiscard]] uint64_t short_hash(std::string_view key);

}  // namespace hadal
