#include "models/blocks/engram_hash.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <string>

namespace hadal {
namespace {

__extension__ using uint128 = unsigned __int128;

constexpr int64_t kMaxTables = int64_t{1} << 20;
constexpr int64_t kSeedFactor = 10007;  // of the layer's number

// --- numpy.random

/// numpy's SeedSequence (after M. O'Neill's seed_seq): a seed of up to two words becomes a pool of
/// four, from which any number of words is drawn.
class SeedSequence {
 public:
  explicit SeedSequence(uint64_t seed) {
    uint32_t hash = 0x43B0D7E5;
    const auto hashed = [&hash](uint32_t word) {
      word ^= hash;
      hash *= 0x931E8875;
      word *= hash;
      return word ^ (word >> 16);
    };
    pool_[0] = hashed(static_cast<uint32_t>(seed));
    pool_[1] = hashed(static_cast<uint32_t>(seed >> 32));
    pool_[2] = hashed(0);
    pool_[3] = hashed(0);
    for (size_t from = 0; from < pool_.size(); ++from)
      for (size_t to = 0; to < pool_.size(); ++to) {
        if (from == to) continue;
        const uint32_t mixed = 0xCA01F9DD * pool_[to] - 0x4973F715 * hashed(pool_[from]);
        pool_[to] = mixed ^ (mixed >> 16);
      }
  }

  [[nodiscard]] std::array<uint64_t, 4> words() const {
    std::array<uint64_t, 4> out{};
    uint32_t hash = 0x8B51F9DD;
    for (size_t i = 0; i < 2 * out.size(); ++i) {
      uint32_t word = pool_[i % pool_.size()] ^ hash;
      hash *= 0x58F38DED;
      word *= hash;
      word ^= word >> 16;
      out[i / 2] |= uint64_t{word} << (32 * (i % 2));
    }
    return out;
  }

 private:
  std::array<uint32_t, 4> pool_{};
};

/// PCG64 (PCG XSL RR 128/64) and the draws that numpy's Generator makes of it.
class Pcg64 {
 public:
  explicit Pcg64(uint64_t seed) {
    const auto words = SeedSequence(seed).words();
    increment_ = (joined(words[2], words[3]) << 1) | 1;
    step();
    state_ += joined(words[0], words[1]);
    step();
  }

  /// integers(0, end) with dtype int64; end > 0. Lemire's method (arXiv 1805.10941): of a product
  /// the upper half is taken and thrown away where the lower one shows a surplus. Ranges that fit
  /// take 32 bits a draw.
  int64_t below(int64_t end) {
    const auto count = static_cast<uint64_t>(end);
    if (count == 1) return 0;  // and draws nothing
    return static_cast<int64_t>(count <= kTwo32 ? below32(count) : below64(count));
  }

 private:
  static constexpr uint64_t kTwo32 = uint64_t{1} << 32;
  static uint128 joined(uint64_t high, uint64_t low) { return uint128{high} << 64 | low; }
  void step() { state_ = state_ * joined(0x2360ED051FC65DA4, 0x4385DF649FCCF645) + increment_; }
  uint64_t next64() {
    step();
    const auto folded = static_cast<uint64_t>(state_ >> 64) ^ static_cast<uint64_t>(state_);
    return std::rotr(folded, static_cast<int>(state_ >> 122));
  }
  /// The lower half of a word, then the upper one.
  uint32_t next32() {
    has_half_ = !has_half_;
    if (!has_half_) return static_cast<uint32_t>(word_ >> 32);
    word_ = next64();
    return static_cast<uint32_t>(word_);
  }
  uint64_t below32(uint64_t count) {
    const uint64_t surplus = kTwo32 % count;
    for (;;) {
      const uint64_t product = uint64_t{next32()} * count;
      if (static_cast<uint32_t>(product) >= surplus) return product >> 32;
    }
  }
  uint64_t below64(uint64_t count) {
    const uint64_t surplus = (0 - count) % count;  // 2^64 mod count
    for (;;) {
      const uint128 product = uint128{next64()} * count;
      if (static_cast<uint64_t>(product) >= surplus) return static_cast<uint64_t>(product >> 64);
    }
  }

  uint128 state_ = 0, increment_ = 0;
  uint64_t word_ = 0;
  bool has_half_ = false;
};

std::vector<int64_t> multipliers_of(int64_t layer, const EngramHash::Config& c) {
  constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
  const int64_t end = std::max<int64_t>(1, kLargest / c.compressed_vocab_size / 2);
  Pcg64 random(static_cast<uint64_t>(kSeedFactor * layer));
  std::vector<int64_t> out;
  for (int64_t i = 0; i < c.max_ngram_size; ++i) out.push_back(2 * random.below(end) + 1);
  return out;
}

// --- primes

/// The first `count` primes that are not below `first`, from a sieve a stretch at a time.
std::vector<int64_t> primes_from(int64_t first, size_t count) {
  constexpr int64_t kStretch = 1 << 16;
  std::vector<int64_t> out;
  for (int64_t begin = std::max<int64_t>(first, 2); out.size() < count; begin += kStretch) {
    const int64_t end = begin + kStretch;
    std::vector<bool> composite(kStretch);
    for (int64_t d = 2; d * d < end; d += d == 2 ? 1 : 2)
      for (int64_t m = std::max(d * d, (begin + d - 1) / d * d); m < end; m += d)
        composite[static_cast<size_t>(m - begin)] = true;
    for (int64_t n = begin; n < end && out.size() < count; ++n)
      if (!composite[static_cast<size_t>(n - begin)]) out.push_back(n);
  }
  return out;
}

Status check(const EngramHash::Config& c) {
  const auto within = [](const char* name, int64_t value, int64_t low, int64_t high) -> Status {
    if (value >= low && value <= high) return {};
    return failed(std::string(name) + " is " + std::to_string(value) + "; expected a number from " +
                  std::to_string(low) + " to " + std::to_string(high));
  };
  constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
  HADAL_TRY(within("engram_vocab_size", c.vocab_size, 1, int64_t{1} << 31));
  HADAL_TRY(within("engram_max_ngram_size", c.max_ngram_size, 2, 16));
  HADAL_TRY(within("engram_n_heads", c.n_heads, 1, 1024));
  HADAL_TRY(within("engram_compressed_vocab_size", c.compressed_vocab_size, 1, kLargest));
  HADAL_TRY(within("the compressed engram_pad_id", c.pad_id, 0, c.compressed_vocab_size - 1));
  for (const int64_t layer : c.layer_ids) {
    HADAL_TRY(within("an id of engram_layer_ids", layer, 0, std::numeric_limits<int32_t>::max()));
    if (std::count(c.layer_ids.begin(), c.layer_ids.end(), layer) > 1)
      return failed("engram_layer_ids holds " + std::to_string(layer) + " twice");
  }
  const int64_t tables = (c.max_ngram_size - 1) * c.n_heads;
  HADAL_TRY(within("the number of Engram's layers", static_cast<int64_t>(c.layer_ids.size()), 0,
                   kMaxTables / tables));
  for (const int32_t id : c.token_map)
    HADAL_TRY(within("a token's compressed id", id, -1, c.compressed_vocab_size - 1));
  return {};
}

}  // namespace

Result<EngramHash> EngramHash::make(Config config) {
  HADAL_TRY(check(config));
  EngramHash out(std::move(config));
  const Config& c = out.config_;
  // The search for primes begins anew for each size, and passes over those that are taken: so
  // every table takes the next prime.
  const size_t tables = out.rows_per_token();
  const std::vector<int64_t> all = primes_from(c.vocab_size, tables * c.layer_ids.size());
  auto next = all.begin();
  for (const int64_t id : c.layer_ids) {
    Layer& layer = out.layers_.emplace_back();
    layer.multipliers = multipliers_of(id, c);
    for (size_t i = 0; i < tables; ++i, ++next) {
      layer.primes.push_back(*next);
      layer.offsets.push_back(layer.total_rows);
      layer.total_rows += *next;
    }
  }
  return out;
}

size_t EngramHash::rows_per_token() const {
  return static_cast<size_t>((config_.max_ngram_size - 1) * config_.n_heads);
}

/// -1: dead, or before the text.
int64_t EngramHash::compressed(std::span<const int32_t> tokens, int64_t position) const {
  if (position < 0) return -1;
  const int32_t token = tokens[static_cast<size_t>(position)];
  if (token < 0 || static_cast<size_t>(token) >= config_.token_map.size()) return -1;
  return config_.token_map[static_cast<size_t>(token)];
}

void EngramHash::rows(std::span<const int32_t> tokens, int64_t position, size_t layer,
                      std::span<int64_t> out) const {
  HADAL_CHECK(position >= 0 && position < static_cast<int64_t>(tokens.size()));
  HADAL_CHECK(layer < layers_.size() && out.size() == rows_per_token());
  const Layer& l = layers_[layer];
  const auto heads = static_cast<size_t>(config_.n_heads);
  int64_t hash = 0;  // id times multiplier stays below 2^63: see multipliers_of
  bool padded = false;
  for (size_t i = 0; i < l.multipliers.size(); ++i) {
    const int64_t id = padded ? -1 : compressed(tokens, position - static_cast<int64_t>(i));
    padded = id < 0;
    hash ^= (padded ? config_.pad_id : id) * l.multipliers[i];
    for (size_t k = (i - 1) * heads; i > 0 && k < i * heads; ++k)
      out[k] = hash % l.primes[k] + l.offsets[k];
  }
}

}  // namespace hadal
