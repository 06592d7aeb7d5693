#include "text/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "text/tokenizer/unicode.h"
#include "text/tokenizer/utf8.h"

namespace hadal {
namespace {

const CodeSet& word_set() {
  static const CodeSet set = *table_set("regex word");
  return set;
}

const CodeSet& space_set() {
  static const CodeSet set = *table_set("rust space");
  return set;
}

bool ends_with(std::string_view text, size_t end, const CodeSet& set) {
  if (end == 0) return false;
  size_t at = utf8_back(text, end);
  return set.contains(utf8_next(text, at));
}

bool starts_with(std::string_view text, size_t at, const CodeSet& set) {
  return at < text.size() && set.contains(utf8_next(text, at));
}

}  // namespace

void ByteTrie::add(std::string_view text, int32_t value) {
  if (text.empty()) return;
  starts_[static_cast<unsigned char>(text[0])] = true;
  uint32_t node = 0;
  for (const char c : text) {
    const uint64_t key = (uint64_t{node} << 8) | static_cast<unsigned char>(c);
    const auto [edge, fresh] = edges_.try_emplace(key, static_cast<uint32_t>(values_.size()));
    if (fresh) values_.push_back(-1);
    node = edge->second;
  }
  if (values_[node] < 0) values_[node] = value;
}

ByteTrie::Hit ByteTrie::longest(std::string_view text) const {
  Hit hit;
  if (!starts_[static_cast<unsigned char>(text[0])]) return hit;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto edge = edges_.find((uint64_t{node} << 8) | static_cast<unsigned char>(text[i]));
    if (edge == edges_.end()) break;
    node = edge->second;
    if (values_[node] >= 0) hit = {i + 1, values_[node]};
  }
  return hit;
}

void AddedTokens::add(AddedToken token, int32_t id) {
  by_content_.insert_or_assign(token.content, id);
  if (token.special) special_.insert(token.content);
  by_id_.insert_or_assign(id, std::move(token));
}

// As the library: a match that is no single word is passed over whole; spaces that the token before
// took are not taken again.
std::vector<AddedTokens::Section> AddedTokens::sections(std::string_view text,
                                                        bool normalized) const {
  const ByteTrie& trie = normalized ? normalized_ : raw_;
  std::vector<Section> out;
  size_t done = 0;
  Piece spaces;  // that a token took on its right
  for (size_t at = 0; at < text.size();) {
    const ByteTrie::Hit hit = trie.longest(text.substr(at));
    if (hit.bytes == 0) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + hit.bytes;
    at = end;
    const AddedToken& token = by_id_.at(hit.value);
    if (token.single_word &&
        (ends_with(text, begin, word_set()) || starts_with(text, end, word_set())))
      continue;
    if (token.lstrip) {
      while (begin > done && ends_with(text, begin, space_set())) begin = utf8_back(text, begin);
      begin = std::max(begin, done);
    }
    if (token.rstrip) {
      if (end < spaces.begin || end > spaces.end) {
        spaces = {end, end};
        while (starts_with(text, spaces.end, space_set())) utf8_next(text, spaces.end);
      }
      end = spaces.end;
    }
    if (begin >= end) continue;  // a token of spaces that the one before took
    if (done < begin) out.push_back({{done, begin}, -1});
    out.push_back({{begin, end}, hit.value});
    done = end;
  }
  if (done < text.size()) out.push_back({{done, text.size()}, -1});
  return out;
}

const AddedToken* AddedTokens::find(int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &found->second;
}

std::optional<int32_t> AddedTokens::id_of(std::string_view content) const {
  const auto found = by_content_.find(content);
  if (found == by_content_.end()) return std::nullopt;
  return found->second;
}

bool AddedTokens::is_special(int32_t id) const {
  const AddedToken* token = find(id);
  return token && special_.contains(token->content);
}

}  // namespace hadal
