// What the engine's tests share: golden models as engines, random requests, and running them.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "engine/engine.h"

namespace hadal::testing {

inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(HADAL_GOLDEN_MODELS) / name;
}

/// A model of tests/golden, loaded.
struct Loaded {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Engine> engine;
};

inline RunnerOptions small_options() {
  return {.device = {.threads = 1},
          .context = 320,
          .max_tokens = 64,
          .max_sequences = 4,
          .max_logit_rows = 8};
}

/// The map that Engram's rows depend on: any of the right size does.
inline Result<CompressedVocabulary> any_vocabulary(const Config& config) {
  HADAL_TRY(const int64_t count, config.integer("engram_compressed_vocab_size", 1, 1 << 24));
  HADAL_TRY(const int64_t vocab, config.integer("vocab_size", 1, 1 << 24));
  CompressedVocabulary vocabulary{.id_of_token = {}, .count = count};
  for (int64_t i = 0; i < vocab; ++i)
    vocabulary.id_of_token.push_back(static_cast<int32_t>(i % count));
  return vocabulary;
}

inline Loaded load(const std::filesystem::path& path,
                   const RunnerOptions& options = small_options(), EngineOptions engine = {}) {
  Loaded l;
  auto checkpoint = Checkpoint::open(path);
  EXPECT_TRUE(checkpoint) << checkpoint.error().message;
  l.checkpoint = *std::move(checkpoint);
  RunnerOptions complete = options;
  complete.compressed_vocabulary = [&] { return any_vocabulary(l.checkpoint->config()); };
  auto loaded = Engine::load(*l.checkpoint, complete, {}, std::move(engine));
  EXPECT_TRUE(loaded) << loaded.error().message;
  l.engine = *std::move(loaded);
  return l;
}

inline std::vector<TokenId> random_tokens(uint32_t seed, int64_t count, int64_t vocab) {
  std::mt19937 random(seed);
  std::vector<TokenId> ids;
  for (int64_t i = 0; i < count; ++i)
    ids.push_back(static_cast<TokenId>(random() % static_cast<uint64_t>(vocab)));
  return ids;
}

/// What one request got: tokens, and every row of logits by position.
struct Got {
  std::vector<TokenId> tokens;
  std::map<int64_t, std::vector<float>> logits;
  std::vector<TokenEvent> events;
  bool operator==(const Got& other) const {
    return tokens == other.tokens && logits == other.logits;
  }
};

/// Keeps the rows of logits that a request gets.
inline void keep_logits(Request& request, Got& got) {
  request.logits_from = static_cast<int64_t>(request.prompt.size()) - 1;
  request.on_logits = [&got](int64_t position, std::span<const float> row) {
    const bool fresh =
        got.logits.emplace(position, std::vector<float>(row.begin(), row.end())).second;
    EXPECT_TRUE(fresh) << "position " << position << " came twice";
  };
}

/// Drives the engine until it is idle; what comes for ids[i] goes to got[i].
inline void drive(Engine& engine, std::span<const SeqId> ids, std::span<Got> got) {
  for (int steps = 0; !engine.idle() && steps < 20000; ++steps) {
    const auto events = engine.step();
    EXPECT_TRUE(events) << events.error().message;
    if (!events) break;
    for (const TokenEvent& event : *events)
      for (size_t i = 0; i < ids.size(); ++i)
        if (event.seq == ids[i]) {
          got[i].events.push_back(event);
          if (event.token >= 0) got[i].tokens.push_back(event.token);
        }
  }
  EXPECT_TRUE(engine.idle());
}

/// Runs requests together; each gets its own result. Logits are kept where `with_logits` says.
inline std::vector<Got> run(Engine& engine, std::vector<Request> requests,
                            bool with_logits = true) {
  std::vector<Got> got(requests.size());
  std::vector<SeqId> ids;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (with_logits) keep_logits(requests[i], got[i]);
    const auto id = engine.add(std::move(requests[i]));
    EXPECT_TRUE(id) << id.error().message;
    ids.push_back(*id);
  }
  drive(engine, ids, got);
  return got;
}

inline Request request(uint32_t seed, int64_t prompt, int64_t new_tokens, int64_t vocab,
                       bool reuse = true) {
  Request r;
  r.prompt = random_tokens(seed, prompt, vocab);
  r.max_new_tokens = new_tokens;
  r.sampling = {.temperature = 1, .seed = seed};
  r.reuse_prefix = reuse;
  return r;
}

/// A constraint that a test writes as a function of all tokens, guesses included.
using Restriction = std::function<void(std::span<const TokenId>, std::span<uint32_t>)>;
class Restricted final : public Constraint {
 public:
  Restricted(std::vector<TokenId> prompt, Restriction restriction)
      : tokens_(std::move(prompt)), restriction_(std::move(restriction)) {}
  void accept(TokenId token) override { tokens_.push_back(token); }
  bool restrict(std::span<const TokenId> drafts, std::span<uint32_t> allowed) override {
    std::vector<TokenId> tokens = tokens_;
    tokens.insert(tokens.end(), drafts.begin(), drafts.end());
    restriction_(tokens, allowed);
    return true;
  }

 private:
  std::vector<TokenId> tokens_;
  Restriction restriction_;
};

inline void restrict(Request& request, const Restriction& restriction) {
  request.constraint = [prompt = request.prompt, restriction] {
    return std::make_unique<Restricted>(prompt, restriction);
  };
}

}  // namespace hadal::testing
