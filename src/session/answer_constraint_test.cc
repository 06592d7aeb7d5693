// Thinking budgets and grammars over scripted token sources: no model, every chat format, cut at
// every byte. What is forced or forbidden here is what a model would meet.
#include "session/answer_constraint.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "session/answer.h"
#include "text/chat/byte_tokenizer.h"

namespace hadal {
namespace {

constexpr TokenId kThink = 258, kEnd = 259, kClose = 260;
constexpr size_t kWords = (261 + 31) / 32;

class Constraints : public ::testing::Test {
 protected:
  void SetUp() override {
    tokenizer_ = byte_tokenizer({"<think>", "<|end|>", "</think>"});
    const TokenId ending[] = {kEnd};
    auto compiler = GrammarCompiler::create(*tokenizer_, ending);
    ASSERT_TRUE(compiler) << compiler.error().message;
    compiler_ = *std::move(compiler);
  }
  std::shared_ptr<const CompiledGrammar> regex(const std::string& text) {
    auto grammar = compiler_->compile({.kind = GrammarKind::kRegex, .text = text});
    EXPECT_TRUE(grammar) << grammar.error().message;
    return grammar ? *grammar : nullptr;
  }
  /// The tokens that may come, all of them if nothing is restricted.
  static std::vector<TokenId> allowed(Constraint& constraint, std::vector<TokenId> drafts = {}) {
    std::vector<uint32_t> bits(kWords, ~0U);
    const bool restricted = constraint.restrict(drafts, bits);
    std::vector<TokenId> tokens;
    for (TokenId t = 0; t < 261; ++t)
      if ((bits[static_cast<size_t>(t / 32)] >> (t % 32) & 1) != 0) tokens.push_back(t);
    EXPECT_EQ(restricted, tokens.size() < 261);
    return tokens;
  }
  static bool free(Constraint& constraint, std::vector<TokenId> drafts = {}) {
    return allowed(constraint, std::move(drafts)).size() == 261;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<GrammarCompiler> compiler_;
};

using Tokens = std::vector<TokenId>;

TEST_F(Constraints, ABudgetClosesTheThoughtAndNothingElse) {
  const auto c =
      make_answer_constraint(*tokenizer_, {.thought = ThoughtAt::kOpen, .thinking_budget = 3});
  for (const TokenId t : {'a', 'b'}) {
    EXPECT_TRUE(free(*c));
    c->accept(t);
  }
  EXPECT_EQ(allowed(*c, {'c'}), Tokens{kClose});  // behind a guess that spends the last token
  EXPECT_TRUE(free(*c, {kClose}));                // and behind one that closes it
  EXPECT_TRUE(free(*c));
  c->accept('c');
  EXPECT_EQ(allowed(*c), Tokens{kClose});
  EXPECT_EQ(allowed(*c), Tokens{kClose});
  c->accept(kClose);
  EXPECT_TRUE(free(*c));
}

TEST_F(Constraints, AModelThatClosesItsThoughtInTimeIsLeftAlone) {
  const auto c =
      make_answer_constraint(*tokenizer_, {.thought = ThoughtAt::kOpen, .thinking_budget = 3});
  c->accept('a');
  c->accept(kClose);
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(free(*c));
    c->accept('x');
  }
}

TEST_F(Constraints, ABudgetOfNothingMeansNoThought) {
  const auto open =
      make_answer_constraint(*tokenizer_, {.thought = ThoughtAt::kOpen, .thinking_budget = 0});
  EXPECT_EQ(allowed(*open), Tokens{kClose});
  const auto maybe =
      make_answer_constraint(*tokenizer_, {.thought = ThoughtAt::kMaybe, .thinking_budget = 0});
  EXPECT_TRUE(free(*maybe));
  maybe->accept(kThink);
  EXPECT_EQ(allowed(*maybe), Tokens{kClose});
}

TEST_F(Constraints, AMarkOfManyTokensIsSpelledOut) {
  const auto tokenizer = byte_tokenizer({"<x>", "<|end|>", "<y>"});
  const auto c =
      make_answer_constraint(*tokenizer, {.thought = ThoughtAt::kOpen, .thinking_budget = 1});
  c->accept('a');
  for (const char mark : std::string("</think>")) {
    EXPECT_EQ(allowed(*c), Tokens{mark});
    c->accept(mark);
  }
  EXPECT_TRUE(free(*c));
}

TEST_F(Constraints, AGrammarBeginsBehindTheThought) {
  const auto c = make_answer_constraint(
      *tokenizer_, {.thought = ThoughtAt::kOpen, .thinking_budget = {}, .grammar = regex("ab?")});
  EXPECT_TRUE(free(*c));
  // Behind guesses that end the thought, and go on in the answer.
  EXPECT_EQ(allowed(*c, {'x', kClose}), (Tokens{'\n', 'a', 256}));
  EXPECT_EQ(allowed(*c, {kClose, '\n'}), (Tokens{'\n', 'a'}));
  EXPECT_EQ(allowed(*c, {kClose, 'a'}), (Tokens{'b', kEnd}));
  EXPECT_TRUE(free(*c, {kClose, 'z'}));  // no such guess is kept: nothing to say
  EXPECT_TRUE(free(*c));
  c->accept('x');
  c->accept(kClose);
  c->accept(256);  // two newlines are all
  EXPECT_EQ(allowed(*c), Tokens{'a'});
  EXPECT_EQ(allowed(*c, {'a', 'b'}), Tokens{kEnd});
  EXPECT_EQ(allowed(*c), Tokens{'a'});
  c->accept('a');
  EXPECT_EQ(allowed(*c), (Tokens{'b', kEnd}));
}

TEST_F(Constraints, AModelMayOpenAThoughtBeforeAGrammar) {
  const AnswerRules rules{
      .thought = ThoughtAt::kMaybe, .thinking_budget = 5, .grammar = regex("a+")};
  const auto thinks = make_answer_constraint(*tokenizer_, rules);
  EXPECT_EQ(allowed(*thinks), (Tokens{'a', kThink}));
  thinks->accept(kThink);
  EXPECT_TRUE(free(*thinks));
  const auto answers = make_answer_constraint(*tokenizer_, rules);
  answers->accept('a');
  EXPECT_EQ(allowed(*answers), (Tokens{'a', kEnd}));
}

/// A source that says its script where it may, else the first token that may come: as a model whose
/// wishes are known.
Answer say(const Tokenizer& tokenizer, Constraint& constraint, const std::string& format,
           bool in_thought, const std::vector<TokenId>& script) {
  auto parser = make_output_parser(format, in_thought);
  EXPECT_TRUE(parser);
  AnswerBuilder builder(AnswerStream(tokenizer, *std::move(parser),
                                     {.stop = {}, .ending = {kEnd}, .show_special = true}),
                        {.prompt_tokens = 1, .ending = {kEnd}});
  size_t at = 0;
  for (int i = 0; i < 200 && !builder.over(); ++i) {
    std::vector<uint32_t> bits(kWords, ~0U);
    constraint.restrict({}, bits);
    TokenId token = at < script.size() ? script[at] : kEnd;
    const auto may = [&](TokenId t) {
      return (bits[static_cast<size_t>(t / 32)] >> (t % 32) & 1) != 0;
    };
    if (may(token)) {
      ++at;
    } else {
      token = 0;
      while (token < 261 && !may(token)) ++token;
      EXPECT_LT(token, 261) << "nothing may come";
      // A thought that was closed for it: what it still wanted to think is lost.
      if (token == kClose)
        while (at < script.size() && script[at++] != kClose) {
        }
    }
    constraint.accept(token);
    (void)builder.push({.seq = {0},
                        .token = token,
                        .finish = token == kEnd ? FinishReason::kEnding : FinishReason::kNone,
                        .stats = {}});
  }
  (void)builder.finish();
  return builder.take();
}

TEST_F(Constraints, HoldInEveryChatFormat) {
  const auto schema = compiler_->compile(
      {.kind = GrammarKind::kJsonSchema,
       .text = R"({"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],
                   "additionalProperties":false})"});
  ASSERT_TRUE(schema) << schema.error().message;
  const std::string thought = "Hmm, \xE6\x83\xB3 so", json = R"({"a": 12})";
  for (const ChatFormat& format : chat_formats()) {
    const bool thinks = format.output_parser.starts_with("think");
    std::vector<TokenId> script;
    if (thinks) {
      for (const TokenId id : tokenizer_->encode(thought)) script.push_back(id);
      script.push_back(kClose);
    }
    for (const TokenId id : tokenizer_->encode(json)) script.push_back(id);
    script.push_back(kEnd);
    const auto thought_tokens =
        static_cast<int64_t>(thinks ? tokenizer_->encode(thought).size() : 0);
    for (int64_t budget = 0; budget <= thought_tokens + 1; ++budget)
      // The source breaks off at every token, too: what is left must still be valid.
      for (size_t cut = 0; cut <= script.size(); cut += budget % 3 == 0 ? 1 : script.size()) {
        AnswerRules rules{.thought = thinks ? ThoughtAt::kOpen : ThoughtAt::kNone,
                          .thinking_budget = budget,
                          .grammar = *schema};
        if (!thinks) rules.thinking_budget.reset();
        const auto c = make_answer_constraint(*tokenizer_, rules);
        std::vector<TokenId> part(script.begin(), script.begin() + static_cast<ptrdiff_t>(cut));
        if (cut < script.size() && thinks && static_cast<int64_t>(cut) <= thought_tokens)
          part.push_back(kClose);
        const Answer answer = say(*tokenizer_, *c, std::string(format.name), thinks, part);
        const std::string where = std::string(format.name) + ", budget " + std::to_string(budget) +
                                  ", cut " + std::to_string(cut);
        EXPECT_EQ(answer.end, AnswerEnd::kStop) << where;
        EXPECT_LE(answer.usage.thought_tokens, budget + 1) << where;  // the mark counts
        const size_t first = answer.content.find_first_not_of(" \n\t");
        ASSERT_NE(first, std::string::npos) << where;
        EXPECT_EQ(answer.content[first], '{') << where << ": " << answer.content;
        EXPECT_EQ(answer.content.back(), '}') << where;
        if (cut == script.size()) {
          EXPECT_EQ(answer.content, json) << where;
        }
        if (thinks && cut == script.size() && budget > thought_tokens) {
          EXPECT_EQ(answer.reasoning, thought) << where;
        }
      }
  }
}

}  // namespace
}  // namespace hadal
