#include "text/tokenizer/vocab.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "checkpoint/printable.h"
#include "text/tokenizer/utf8.h"

namespace hadal {

uint64_t short_hash(std::string_view key) {
  constexpr uint64_t kFactor = 0x9E3779B97F4A7C15u;
  uint64_t h = key.size() * kFactor;
  const char* p = key.data();
  size_t left = key.size();
  const auto mix = [&](uint64_t word) {
    h = (h ^ word) * kFactor;
    h ^= h >> 29;
  };
  for (; left >= 8; p += 8, left -= 8) {
    uint64_t word = 0;
    std::memcpy(&word, p, 8);
    mix(word);
  }
  uint64_t word = 0;
  if (left > 0) std::memcpy(&word, p, left);
  mix(word);
  h *= 0xD6E8FEB86659FD93u;
  return h ^ (h >> 32);
}

void Vocab::reserve(size_t tokens, size_t bytes) {
  bytes_.reserve(bytes);
  spans_.reserve(tokens);
  grow(tokens);
}

void Vocab::grow(size_t tokens) {
  const size_t wanted = std::bit_ceil(tokens * 2 + 16);
  if (wanted <= slots_.size()) return;
  std::vector<Slot> old(wanted);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.id < 0) continue;
    size_t i = slot.hash & (wanted - 1);
    while (slots_[i].id >= 0) i = (i + 1) & (wanted - 1);
    slots_[i] = slot;
  }
}

Status Vocab::add(std::string_view token, int64_t id, bool first_wins) {
  if (id < 0 || id > kMaxTokenId)
    return failed(fmt::format("token {} has id {}; expected an id from 0 to {}", quote(token, 40),
                              id, kMaxTokenId));
  if (has(id))
    return failed(fmt::format("id {} is given to both {} and {}", id, quote(this->token(id), 40),
                              quote(token, 40)));
  grow(static_cast<size_t>(count_) + 1);
  const auto hash = static_cast<uint32_t>(short_hash(token));
  size_t i = hash & (slots_.size() - 1);
  bool known = false;
  for (; slots_[i].id >= 0; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].hash != hash || this->token(slots_[i].id) != token) continue;
    if (!first_wins)
      return failed(
          fmt::format("token {} has two ids, {} and {}", quote(token, 40), slots_[i].id, id));
    known = true;
    break;
  }
  if (!known) slots_[i] = {hash, static_cast<int32_t>(id)};
  if (id >= size()) spans_.resize(static_cast<size_t>(id) + 1);
  spans_[static_cast<size_t>(id)] = {bytes_.size(), static_cast<uint32_t>(token.size())};
  bytes_ += token;
  ++count_;
  return {};
}

std::optional<int32_t> Vocab::find(std::string_view token) const {
  if (slots_.empty()) return std::nullopt;
  const auto hash = static_cast<uint32_t>(short_hash(token));
  for (size_t i = hash & (slots_.size() - 1); slots_[i].id >= 0; i = (i + 1) & (slots_.size() - 1))
    if (slots_[i].hash == hash && this->token(slots_[i].id) == token) return slots_[i].id;
  return std::nullopt;
}

std::string_view Vocab::token(int64_t id) const {
  if (!has(id)) return {};
  const Span& span = spans_[static_cast<size_t>(id)];
  return std::string_view(bytes_).substr(span.begin, span.length);
}

ByteAlphabet::ByteAlphabet() {
  bytes_.fill(-1);
  char32_t next = 256;
  for (int b = 0; b < 256; ++b) {
    const bool visible = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    const char32_t code = visible ? static_cast<char32_t>(b) : next++;
    bytes_[code] = static_cast<int16_t>(b);
    std::string text;
    utf8_append(text, code);
    const auto row = static_cast<size_t>(b);
    std::memcpy(characters_[row].data(), text.data(), text.size());
    lengths_[row] = static_cast<uint8_t>(text.size());
  }
}

const ByteAlphabet& ByteAlphabet::get() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

std::string ByteAlphabet::spelled(std::string_view bytes) const {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) out += character(static_cast<unsigned char>(c));
  return out;
}

std::string ByteAlphabet::bytes(std::string_view token) const {
  std::string out;
  if (!utf8_valid(token)) return std::string(token);
  for (size_t at = 0; at < token.size();) {
    const int b = byte(utf8_next(token, at));
    if (b < 0) return std::string(token);
    out.push_back(static_cast<char>(static_cast<unsigned char>(b)));
  }
  return out;
}

}  // namespace hadal
