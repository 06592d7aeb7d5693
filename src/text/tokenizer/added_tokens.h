// AddedTokens: the tokens that are recognised in the text itself, before the model sees it.
//
// Owns their flags and the two tries of the `tokenizers` library: tokens that are not normalised
// are found in the raw text, the others afterwards in what the normaliser made of the rest.
// Leftmost, longest; single_word, lstrip and rstrip as there.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer/pattern.h"

namespace hadal {

/// Bytes of an added token; each place of a text costs as many steps as the tokens that begin there
/// are long. The longest known has 40.
inline constexpr size_t kMaxAddedToken = 256;

struct AddedToken {
  std::string content;
  bool single_word = false, lstrip = false, rstrip = false, normalized = false, special = false;
  bool operator==(const AddedToken&) const = default;
};

/// A set of strings, the longest of which at a place is wanted.
class ByteTrie {
 public:
  /// The first of equal strings keeps its value.
  void add(std::string_view text, int32_t value);
  struct Hit {
    size_t bytes = 0;
    int32_t value = -1;
  };
  /// The longest string at the front of `text`; no bytes: none.
  [[nodiscard]] Hit longest(std::string_view text) const;
  [[nodiscard]] bool empty() const { return values_.size() <= 1; }

 private:
  std::unordered_map<uint64_t, uint32_t> edges_;  // node << 8 | byte
  std::vector<int32_t> values_ = {-1};            // by node
  std::vector<bool> starts_ = std::vector<bool>(256);
};

class AddedTokens {
 public:
  /// `id`: what the library gives it. A token that is there takes these flags.
  void add(AddedToken token, int32_t id);
  /// After the last token: builds the tries. `normalize` makes of a token's text what is looked
  /// for.
  template <typename Normalize>
  void finish(Normalize&& normalize) {
    for (const auto& [id, token] : by_id_)
      token.normalized ? normalized_.add(normalize(token.content), id)
                       : raw_.add(token.content, id);
  }

  /// A stretch of text, or one token.
  struct Section {
    Piece piece;
    int32_t id = -1;  ///< -1: text
  };
  [[nodiscard]] std::vector<Section> sections(std::string_view text, bool normalized) const;
  [[nodiscard]] bool has_any(bool normalized) const {
    return !(normalized ? normalized_ : raw_).empty();
  }

  [[nodiscard]] const AddedToken* find(int32_t id) const;
  [[nodiscard]] std::optional<int32_t> id_of(std::string_view content) const;
  [[nodiscard]] bool is_special(int32_t id) const;
  [[nodiscard]] const std::map<int32_t, AddedToken>& by_id() const { return by_id_; }
  [[nodiscard]] int32_t largest_id() const { return by_id_.empty() ? -1 : by_id_.rbegin()->first; }

 private:
  std::map<int32_t, AddedToken> by_id_;
  std::map<std::string, int32_t, std::less<>> by_content_;
  std::set<std::string, std::less<>> special_;  ///< once special, a string stays so
  ByteTrie raw_, normalized_;
};

}  // namespace hadal
