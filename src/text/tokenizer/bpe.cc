#include "text/tokenizer/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>

#include "checkpoint/printable.h"
#include "text/tokenizer/utf8.h"

namespace hadal {
namespace {

constexpr uint32_t kEnd = UINT32_MAX;
constexpr int32_t kGone = -1;

size_t slot_hash(uint64_t pair) {
  const uint64_t h = (pair ^ (pair >> 31)) * 0x9E3779B97F4A7C15u;
  return static_cast<size_t>(h ^ (h >> 32));
}

}  // namespace

int fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const auto value = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  const int high = value(token[3]), low = value(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

// A cache pays from some hundred words on; 4096 rows of 48 bytes stay in the second-level cache.
BpeModel::Scratch::Scratch(size_t text_bytes, bool hide_special) : hide(hide_special) {
  if (text_bytes >= 4096) known.resize(text_bytes < 65536 ? 1024 : 4096);
}

void BpeModel::grow(size_t count) {
  const size_t wanted = std::bit_ceil(count * 2 + 16);
  if (wanted <= merges_.size()) return;
  std::vector<Merge> old(wanted);
  old.swap(merges_);
  for (const Merge& merge : old)
    if (merge.pair != kNoPair) slot(merge.pair) = merge;
}

void BpeModel::reserve_merges(size_t count) { grow(count); }

BpeModel::Merge& BpeModel::slot(uint64_t pair) {
  size_t i = slot_hash(pair) & (merges_.size() - 1);
  while (merges_[i].pair != kNoPair && merges_[i].pair != pair) i = (i + 1) & (merges_.size() - 1);
  return merges_[i];
}

const BpeModel::Merge* BpeModel::find(int32_t left, int32_t right) const {
  if (merges_.empty()) return nullptr;
  const uint64_t pair = pair_of(left, right);
  const size_t mask = merges_.size() - 1;
  size_t i = slot_hash(pair) & mask;
  while (true) {
    const Merge& merge = merges_[i];
    if (merge.pair == pair) return &merge;
    if (merge.pair == kNoPair) return nullptr;
    i = (i + 1) & mask;
  }
}

Status BpeModel::add_merge(std::string_view left, std::string_view right) {
  const uint32_t rank = next_rank_++;
  const auto missing = [&](std::string_view token) {
    return failed(fmt::format("merge {} ({} and {}): {} is not in the vocabulary", rank,
                              quote(left, 40), quote(right, 40), quote(token, 40)));
  };
  const auto a = vocab.find(left), b = vocab.find(right);
  if (!a) return missing(left);
  if (!b) return missing(right);
  if (!right.starts_with(continuing_subword_prefix))
    return failed(fmt::format("merge {}: {} does not begin with the continuing_subword_prefix {}",
                              rank, quote(right, 40), quote(continuing_subword_prefix, 40)));
  std::string whole;
  whole.reserve(left.size() + right.size());
  whole.append(left).append(right.substr(continuing_subword_prefix.size()));
  const auto id = vocab.find(whole);
  if (!id) return missing(whole);
  grow(count_ + 1);
  Merge& merge = slot(pair_of(*a, *b));
  if (merge.pair == kNoPair) ++count_;
  merge = {pair_of(*a, *b), rank, *id};
  return {};
}

void BpeModel::finish() {
  const ByteAlphabet& alphabet = ByteAlphabet::get();
  plain_bytes_ = continuing_subword_prefix.empty() && end_of_word_suffix.empty();
  for (size_t b = 0; b < 256; ++b) {
    byte_ids_[b] = vocab.find(alphabet.character(static_cast<unsigned char>(b))).value_or(-1);
    fallback_[b] = vocab.find(fmt::format("<0x{:02X}>", b)).value_or(-1);
    plain_bytes_ = plain_bytes_ && byte_ids_[b] >= 0;
  }
}

void BpeModel::push(Scratch& scratch, uint32_t position) const {
  const auto& symbol = scratch.symbols[position];
  if (symbol.next == kEnd) return;
  const Merge* merge = find(symbol.id, scratch.symbols[symbol.next].id);
  if (!merge) return;
  scratch.heap.push_back((uint64_t{merge->rank} << 32) | position);
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), std::greater<>());
}

// The lowest rank first, the leftmost first among equals. An entry is stale when its pair has
// changed since: symbols only grow, so that the pair at a position never returns to a rank it has
// left.
void BpeModel::merge(Scratch& scratch, std::vector<int32_t>& out) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto count = static_cast<uint32_t>(symbols.size());
  heap.clear();
  for (uint32_t i = 0; i < count; ++i) {
    symbols[i].previous = i == 0 ? kEnd : i - 1;
    symbols[i].next = i + 1 == count ? kEnd : i + 1;
    if (i + 1 == count) break;
    if (const Merge* merge = find(symbols[i].id, symbols[i + 1].id))
      heap.push_back((uint64_t{merge->rank} << 32) | i);
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const uint64_t top = heap.back();
    heap.pop_back();
    const auto position = static_cast<uint32_t>(top);
    auto& left = symbols[position];
    if (left.id == kGone || left.next == kEnd) continue;
    const uint32_t gone = left.next;
    const Merge* merge = find(left.id, symbols[gone].id);
    if (!merge || merge->rank != static_cast<uint32_t>(top >> 32)) continue;
    left.id = merge->id;
    left.next = symbols[gone].next;
    symbols[gone].id = kGone;
    if (left.next != kEnd) symbols[left.next].previous = position;
    if (left.previous != kEnd) push(scratch, left.previous);
    push(scratch, position);
  }
  for (uint32_t i = 0; i < count; ++i)
    if (symbols[i].id != kGone) out.push_back(symbols[i].id);
}

void BpeModel::symbols_of(std::string_view word, Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  const auto add = [&](int32_t id) { symbols.push_back({id, 0, 0}); };
  bool pending = false;  // an unknown character that may still be fused with the next
  std::string text;
  for (size_t at = 0; at < word.size();) {
    const size_t begin = at;
    utf8_next(word, at);
    text.clear();
    if (begin > 0) text += continuing_subword_prefix;
    text += word.substr(begin, at - begin);
    if (at == word.size()) text += end_of_word_suffix;
    if (const auto id = vocab.find(text)) {
      if (pending) add(*unk);
      pending = false;
      add(*id);
      continue;
    }
    if (byte_fallback && std::all_of(text.begin(), text.end(), [&](char c) {
          return fallback_[static_cast<unsigned char>(c)] >= 0;
        })) {
      for (const char c : text) add(fallback_[static_cast<unsigned char>(c)]);
      continue;
    }
    if (!unk) continue;  // the library drops what it cannot spell
    if (pending && !fuse_unk) add(*unk);
    pending = true;
  }
  if (pending) add(*unk);
}

void BpeModel::encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& out) const {
  if (word.empty()) return;
  if (ignore_merges) {
    const auto id = vocab.find(word);
    if (id && !(scratch.hide && static_cast<size_t>(*id) < hidden.size() &&
                hidden[static_cast<size_t>(*id)])) {
      out.push_back(*id);
      return;
    }
  }
  scratch.symbols.clear();
  symbols_of(word, scratch);
  merge(scratch, out);
}

void BpeModel::encode_bytes(std::string_view word, Scratch& scratch,
                            std::vector<int32_t>& out) const {
  if (word.empty()) return;
  Scratch::Known* row = nullptr;
  if (word.size() <= Scratch::kWordBytes && !scratch.known.empty()) {
    row = &scratch.known[short_hash(word) & (scratch.known.size() - 1)];
    if (row->bytes == word.size() && std::memcmp(row->word.data(), word.data(), word.size()) == 0) {
      out.insert(out.end(), row->id.begin(), row->id.begin() + row->ids);
      return;
    }
  }
  const size_t before = out.size();
  const ByteAlphabet& alphabet = ByteAlphabet::get();
  if (ignore_merges || !plain_bytes_) {
    scratch.spelled.clear();
    for (const char c : word) scratch.spelled += alphabet.character(static_cast<unsigned char>(c));
    encode(scratch.spelled, scratch, out);
  } else {
    scratch.symbols.clear();
    for (const char c : word)
      scratch.symbols.push_back({byte_ids_[static_cast<unsigned char>(c)], 0, 0});
    merge(scratch, out);
  }
  const size_t ids = out.size() - before;
  if (!row || ids > Scratch::kWordIds) return;
  std::memcpy(row->word.data(), word.data(), word.size());
  row->bytes = static_cast<uint8_t>(word.size());
  row->ids = static_cast<uint8_t>(ids);
  std::copy(out.begin() + static_cast<ptrdiff_t>(before), out.end(), row->id.begin());
}

}  // namespace hadal
