// BpeModel: the merge loop, from one pre-token to ids.
//
// Merges by rank with a heap over a linked list of symbols: O(n log n) for a word of n symbols (one
// letter a million times is such a word). Equals the BPE model of the `tokenizers` library without
// dropout: unk_token, fuse_unk, byte_fallback, ignore_merges, continuing_subword_prefix,
// end_of_word_suffix. Immutable; what a call needs lies in its Scratch.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/vocab.h"

namespace hadal {

class BpeModel {
 public:
  /// Working memory of one encode call, and the ids of the short words it has seen.
  class Scratch {
   public:
    /// `hide_special`: ignore_merges makes no hidden token of a word.
    Scratch(size_t text_bytes, bool hide_special);

   private:
    friend class BpeModel;
    struct Symbol {
      int32_t id = 0;
      uint32_t previous = 0, next = 0;
    };
    static constexpr size_t kWordBytes = 23, kWordIds = 6;
    struct Known {
      std::array<char, kWordBytes> word{};
      uint8_t bytes = 0;  // 0: empty
      uint8_t ids = 0;
      std::array<int32_t, kWordIds> id{};
    };
    std::vector<Symbol> symbols;
    std::vector<uint64_t> heap;
    std::vector<Known> known;  // direct-mapped, a power of two; empty for short texts
    std::string spelled;
    bool hide;
  };

  Vocab vocab;
  std::optional<int32_t> unk;
  std::string continuing_subword_prefix, end_of_word_suffix;
  bool fuse_unk = false, byte_fallback = false, ignore_merges = false;
  std::vector<bool> hidden;  ///< by id: special tokens; may be shorter

  void reserve_merges(size_t count);
  /// The merge of two tokens of the vocabulary, in the order of their ranks; the last of equal
  /// pairs counts. Errors: a part or the whole that is not in the vocabulary.
  Status add_merge(std::string_view left, std::string_view right);
  /// After the last token and merge: derives what encoding looks up.
  void finish();

  /// `word` is spelled in the vocabulary's own characters.
  void encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& out) const;
  /// `word` is bytes, each of which stands for its character of the byte alphabet.
  void encode_bytes(std::string_view word, Scratch& scratch, std::vector<int32_t>& out) const;

 private:
  struct Merge {
    uint64_t pair = kNoPair;
    uint32_t rank = 0;
    int32_t id = 0;
  };
  static constexpr uint64_t kNoPair = UINT64_MAX;
  static uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
  }
  [[nodiscard]] const Merge* find(int32_t left, int32_t right) const;
  Merge& slot(uint64_t pair);
  void grow(size_t count);
  void merge(Scratch& scratch, std::vector<int32_t>& out) const;
  void push(Scratch& scratch, uint32_t position) const;
  void symbols_of(std::string_view word, Scratch& scratch) const;

  std::vector<Merge> merges_;  // open addressing, a power of two
  size_t count_ = 0;
  uint32_t next_rank_ = 0;
  std::array<int32_t, 256> byte_ids_{};  // of a byte's character, -1: not in the vocabulary
  std::array<int32_t, 256> fallback_{};  // of <0x00> … <0xFF>
  bool plain_bytes_ = false;             // every byte has its id and nothing else enters a symbol
};

/// The byte of a token <0x00> … <0xFF>, written so and in no other way; -1 of any other.
[[nodiscard]] int fallback_byte(std::string_view token);

}  // namespace hadal
