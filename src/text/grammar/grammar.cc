#include "text/grammar/grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <list>
#include <map>
#include <mutex>
#include <vector>

#include "text/grammar/ebnf_check.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/limits.h"
#include "text/grammar/regex.h"
#include "text/grammar/tools.h"
#include "text/grammar/xgrammar_core.h"
#include "text/tokenizer/tokenizer.h"

namespace hadal {
namespace {

using Compiled = std::shared_ptr<const CompiledGrammar>;

Result<std::string> regex_grammar(const std::string& regex) {
  HADAL_TRY(const Automaton texts, read_regex(regex, RegexScope::kWhole));
  if (texts.empty()) return usage_error("regex: nothing matches it");
  EbnfWriter out;
  out.rule("root", out.automaton(texts, Spelling::kPlain, "s"));
  return out.text();
}

class Compiler final : public GrammarCompiler {
 public:
  using Special = std::vector<std::pair<TokenId, std::string>>;
  Compiler(std::vector<std::string> plain, Special special, std::vector<TokenId> ending,
           std::unique_ptr<GrammarCore> core)
      : plain_(std::move(plain)),
        special_(std::move(special)),
        ending_(std::move(ending)),
        core_(std::move(core)) {}

  Result<Compiled> compile(const GrammarSource& source) override {
    if (source.text.size() > grammar_limits::kSourceBytes)
      return usage_error(
          fmt::format("grammar: its source is longer than {} bytes", grammar_limits::kSourceBytes));
    const std::lock_guard lock(mutex_);
    for (auto it = kept_.begin(); it != kept_.end(); ++it) {
      if (it->source != source) continue;
      kept_.splice(kept_.begin(), kept_, it);
      return it->grammar;
    }
    HADAL_TRY(Compiled grammar, source.kind == GrammarKind::kTools ? compile_tools(source)
                                                                   : compile_text(source, *core_));
    keep({source, grammar, grammar->bytes() + source.text.size()});
    return grammar;
  }

  [[nodiscard]] size_t cached() const override {
    const std::lock_guard lock(mutex_);
    return kept_.size();
  }
  [[nodiscard]] size_t cached_bytes() const override {
    const std::lock_guard lock(mutex_);
    size_t bytes = kept_bytes_ + core_->cached_bytes();
    for (const auto& [tokens, core] : with_tokens_) bytes += core ? core->cached_bytes() : 0;
    return bytes;
  }

 private:
  struct Kept {
    GrammarSource source;
    Compiled grammar;
    size_t bytes = 0;
  };

  Result<Compiled> compile_text(const GrammarSource& source, GrammarCore& core) {
    HADAL_TRY(const std::string ebnf, ebnf_of(source));
    return compile_ebnf(ebnf, core, source.kind != GrammarKind::kEbnf);
  }
  static Result<Compiled> compile_ebnf(const std::string& ebnf, GrammarCore& core, bool ours) {
    const EbnfLimits limits{
        .bytes = grammar_limits::kGrammarBytes, .rules = grammar_limits::kRules, .ours = ours};
    HADAL_TRY(check_ebnf(ebnf, core.first_bytes(), limits));
    return core.compile(ebnf);
  }
  /// With a vocabulary in which the format's own tokens are the text that they stand for.
  Result<Compiled> compile_tools(const GrammarSource& source) {
    HADAL_TRY(const ToolsGrammar tools, tools_grammar(source));
    std::unique_ptr<GrammarCore>& core = with_tokens_[tools.tokens];
    if (!core) {
      std::vector<std::string> bytes = plain_;
      for (const auto& [id, text] : special_)
        if (std::find(tools.tokens.begin(), tools.tokens.end(), text) != tools.tokens.end())
          bytes[static_cast<size_t>(id)] = text;
      HADAL_TRY(core, GrammarCore::create(bytes, ending_));
    }
    return compile_ebnf(tools.ebnf, *core, true);
  }

  static Result<std::string> ebnf_of(const GrammarSource& source) {
    switch (source.kind) {
      case GrammarKind::kJsonObject:
        return json_object_grammar();
      case GrammarKind::kJsonSchema:
        return json_schema_grammar(source.text);
      case GrammarKind::kRegex:
        return regex_grammar(source.text);
      case GrammarKind::kEbnf:
        return source.text;
      case GrammarKind::kTools:
        break;
    }
    return usage_error("grammar: this kind of source is unknown");
  }

  void keep(Kept kept) {
    kept_bytes_ += kept.bytes;
    kept_.push_front(std::move(kept));
    while (kept_.size() > 1 && (kept_.size() > grammar_limits::kCachedGrammars ||
                                kept_bytes_ > grammar_limits::kCachedBytes)) {
      kept_bytes_ -= kept_.back().bytes;
      kept_.pop_back();
    }
  }

  mutable std::mutex mutex_;
  std::vector<std::string> plain_;  ///< the bytes of each token, none of control tokens
  Special special_;
  std::vector<TokenId> ending_;
  std::unique_ptr<GrammarCore> core_;
  std::map<std::vector<std::string>, std::unique_ptr<GrammarCore>> with_tokens_;  ///< two at most
  std::list<Kept> kept_;  ///< last used first
  size_t kept_bytes_ = 0;
};

}  // namespace

Result<std::unique_ptr<GrammarCompiler>> GrammarCompiler::create(const Tokenizer& tokenizer,
                                                                 std::span<const TokenId> ending) {
  std::vector<std::string> bytes(static_cast<size_t>(tokenizer.vocab_size()));
  Compiler::Special special;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (tokenizer.is_special(id))
      special.emplace_back(id, tokenizer.token(id));
    else
      bytes[i] = tokenizer.token_bytes(id);
  }
  for (const TokenId id : ending)
    if (id < 0 || id >= tokenizer.vocab_size())
      return usage_error(fmt::format("the ending token {} is outside the vocabulary of {} tokens",
                                     id, tokenizer.vocab_size()));
  HADAL_TRY(std::unique_ptr<GrammarCore> core, GrammarCore::create(bytes, ending));
  return Result<std::unique_ptr<GrammarCompiler>>(std::make_unique<Compiler>(
      std::move(bytes), std::move(special), std::vector<TokenId>(ending.begin(), ending.end()),
      std::move(core)));
}

}  // namespace hadal
