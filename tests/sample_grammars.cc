// sample_grammars MODEL: random texts that grammars let through, for
// tools/check/check_json_schemas.py.
//   MODEL: a folder, a GGUF file or a tokenizer.json.
//
// A line of standard input is a JSON object: "kind" (json_object, schema, regex, ebnf, tools),
// "text", "format", "choice", "samples", "seed", and "plain": the schema goes to xgrammar as it is,
// without our refusals. A line of output is {"refused": why} or {"samples": […], "unfinished": n,
// "compile_ms": t, "fill_us": […]}. A text is a walk at random through the masks, which ends more
// readily the longer it is.
#include <bit>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "base/file.h"
#include "checkpoint/checkpoint.h"
#include "text/grammar/grammar.h"
#include "text/grammar/xgrammar_core.h"
#include "text/tokenizer/tokenizer.h"

namespace hadal {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

/// A walk is given up behind so many tokens.
constexpr int kMaxTokens = 1500;
/// From here on it makes for the end where it can.
constexpr int kHurry = 60;

double since(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

Result<std::unique_ptr<Tokenizer>> open_tokenizer(const std::string& path) {
  if (std::filesystem::path(path).extension() == ".json") {
    TokenizerData data;
    HADAL_TRY(data.tokenizer_json, read_text_file(path));
    return Tokenizer::create(data, path);
  }
  HADAL_TRY(const std::unique_ptr<Checkpoint> checkpoint, Checkpoint::open(path));
  return Tokenizer::create(checkpoint->tokenizer(), path);
}

class Sampler {
 public:
  Sampler(const Tokenizer& tokenizer, std::vector<TokenId> ending)
      : tokenizer_(tokenizer),
        ending_(std::move(ending)),
        words_(static_cast<size_t>(tokenizer.vocab_size() + 31) / 32) {
    for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
      const std::string bytes = tokenizer.token_bytes(id);
      if (bytes == "\"" || bytes == "}" || bytes == "]" || bytes == "\"}" || bytes == "</")
        closing_.push_back(id);
    }
  }

  /// A text, or null where none came to its end.
  Json text(const std::shared_ptr<const CompiledGrammar>& grammar, std::mt19937_64& random,
            std::vector<double>& fill_us) {
    const auto matcher = make_matcher(grammar);
    std::vector<TokenId> ids;
    for (int step = 0; step < kMaxTokens; ++step) {
      std::vector<uint32_t> allowed(words_, ~0u);
      const auto begin = Clock::now();
      const bool any = matcher->fill(allowed);
      fill_us.push_back(since(begin));
      if (!any) return nullptr;
      const auto is = [&](TokenId id) {
        return (allowed[static_cast<size_t>(id) / 32] >> (id % 32) & 1) != 0;
      };
      const bool may_end = is(ending_[0]);
      if (may_end && (step >= kHurry || random() % 4 == 0)) {
        HADAL_CHECK(matcher->accept(ending_[0]));
        return tokenizer_.decode(ids);
      }
      for (const TokenId id : ending_) allowed[static_cast<size_t>(id) / 32] &= ~(1u << (id % 32));
      const TokenId next = choose(allowed, random, step >= kHurry || random() % 3 == 0);
      if (next < 0) {
        HADAL_CHECK(may_end && matcher->accept(ending_[0]));
        return tokenizer_.decode(ids);
      }
      HADAL_CHECK(matcher->accept(next));
      ids.push_back(next);
    }
    return nullptr;
  }

 private:
  TokenId choose(const std::vector<uint32_t>& allowed, std::mt19937_64& random, bool hurry) const {
    const auto is = [&](TokenId id) {
      return (allowed[static_cast<size_t>(id) / 32] >> (id % 32) & 1) != 0;
    };
    if (hurry)
      for (const TokenId id : closing_)
        if (is(id)) return id;
    size_t count = 0;
    for (const uint32_t word : allowed) count += static_cast<size_t>(std::popcount(word));
    if (count == 0) return -1;
    size_t index = random() % count;
    for (size_t i = 0;; ++i) {
      const auto here = static_cast<size_t>(std::popcount(allowed[i]));
      if (index >= here) {
        index -= here;
        continue;
      }
      for (TokenId bit = 0;; ++bit)
        if ((allowed[i] >> bit & 1) != 0 && index-- == 0) return static_cast<TokenId>(i * 32) + bit;
    }
  }

  const Tokenizer& tokenizer_;
  std::vector<TokenId> ending_, closing_;
  size_t words_;
};

GrammarKind kind_of(const std::string& name) {
  if (name == "json_object") return GrammarKind::kJsonObject;
  if (name == "regex") return GrammarKind::kRegex;
  if (name == "ebnf") return GrammarKind::kEbnf;
  if (name == "tools") return GrammarKind::kTools;
  return GrammarKind::kJsonSchema;
}

std::vector<std::string> token_texts(const Tokenizer& tokenizer) {
  std::vector<std::string> out(static_cast<size_t>(tokenizer.vocab_size()));
  for (size_t i = 0; i < out.size(); ++i)
    if (!tokenizer.is_special(static_cast<TokenId>(i)))
      out[i] = tokenizer.token_bytes(static_cast<TokenId>(i));
  return out;
}

int run(const std::string& path) {
  const auto tokenizer = open_tokenizer(path);
  if (!tokenizer || (*tokenizer)->ending().empty()) {
    std::fprintf(
        stderr, "%s\n",
        tokenizer ? "the tokenizer has no ending token" : tokenizer.error().message.c_str());
    return 1;
  }
  const std::vector<TokenId> ending = (*tokenizer)->ending();
  const auto compiler = GrammarCompiler::create(**tokenizer, ending);
  const auto core = GrammarCore::create(token_texts(**tokenizer), ending);
  if (!compiler || !core) {
    std::fprintf(stderr, "%s\n", (compiler ? core.error() : compiler.error()).message.c_str());
    return 1;
  }
  Sampler sampler(**tokenizer, ending);
  for (std::string line; std::getline(std::cin, line);) {
    const Json task = Json::parse(line);
    const std::string text = task.value("text", "");
    const auto begin = Clock::now();
    const auto grammar = task.value("plain", false)
                             ? (*core)->compile_schema_as_it_is(text)
                             : (*compiler)->compile({.kind = kind_of(task.value("kind", "schema")),
                                                     .text = text,
                                                     .format = task.value("format", ""),
                                                     .tool_choice = task.value("choice", "")});
    const double compile_ms = since(begin) / 1000;
    Json out = {{"compile_ms", compile_ms}};
    if (!grammar) {
      out["refused"] = grammar.error().message;
    } else {
      std::mt19937_64 random(task.value("seed", uint64_t{1}));
      std::vector<double> fill_us;
      out["samples"] = Json::array();
      int unfinished = 0;
      for (int i = 0; i < task.value("samples", 20); ++i) {
        Json one = sampler.text(*grammar, random, fill_us);
        one.is_null() ? void(++unfinished) : out["samples"].push_back(std::move(one));
      }
      out["unfinished"] = unfinished;
      out["bytes"] = (*grammar)->bytes();
      if (task.value("times", false)) out["fill_us"] = fill_us;
    }
    std::printf("%s\n", out.dump(-1, ' ', true, Json::error_handler_t::replace).c_str());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace hadal

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: sample_grammars MODEL\n");
    return 2;
  }
  return hadal::run(argv[1]);
}
