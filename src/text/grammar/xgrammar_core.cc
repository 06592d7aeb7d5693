#include "text/grammar/xgrammar_core.h"

#include <pthread.h>
#include <xgrammar/xgrammar.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <new>
#include <optional>
#include <stdexcept>

#include "checkpoint/printable.h"
#include "text/grammar/limits.h"

namespace {

/// The first warning of the compilation that this thread runs.
thread_local std::string* first_warning = nullptr;

/// What xgrammar gives up with.
struct CoreError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace

namespace xgrammar {

[[noreturn]] void LogFatalImpl(const std::string&, int, const std::string& message) {
  throw CoreError(message);
}

void LogMessageImpl(const std::string&, int, int, const std::string& message) {
  if (first_warning && first_warning->empty()) *first_warning = message;
}

}  // namespace xgrammar

namespace hadal {
namespace {

using Compiled = Result<std::shared_ptr<const CompiledGrammar>>;

/// Runs `work` on a thread of its own with a large stack: xgrammar walks grammars by recursion.
/// False if there is no such thread to be had.
bool on_large_stack(const std::function<void()>& work) {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  pthread_t thread{};
  const auto run = [](void* argument) -> void* {
    (*static_cast<const std::function<void()>*>(argument))();
    return nullptr;
  };
  const bool started =
      pthread_attr_setstacksize(&attributes, grammar_limits::kStackBytes) == 0 &&
      pthread_create(&thread, &attributes, run, const_cast<std::function<void()>*>(&work)) == 0;
  pthread_attr_destroy(&attributes);
  return started && pthread_join(thread, nullptr) == 0;
}

class Compiled_ final : public CompiledGrammar {
 public:
  explicit Compiled_(xgrammar::CompiledGrammar grammar) : grammar_(std::move(grammar)) {}
  [[nodiscard]] size_t bytes() const override { return grammar_.MemorySizeBytes(); }
  [[nodiscard]] const xgrammar::CompiledGrammar& grammar() const { return grammar_; }

 private:
  xgrammar::CompiledGrammar grammar_;
};

class Matcher final : public GrammarMatcher {
 public:
  explicit Matcher(std::shared_ptr<const CompiledGrammar> grammar)
      : grammar_(std::move(grammar)),
        matcher_(static_cast<const Compiled_&>(*grammar_).grammar()),
        tokens_(
            static_cast<const Compiled_&>(*grammar_).grammar().GetTokenizerInfo().GetVocabSize()),
        mask_(static_cast<size_t>(xgrammar::GetBitmaskSize(tokens_))) {
    for (const int ending : matcher_.GetStopTokenIds()) {
      if (ending_.size() < static_cast<size_t>(ending) / 32 + 1) ending_.resize(mask_.size());
      ending_[static_cast<size_t>(ending) / 32] |= 1u << (ending % 32);
    }
    ending_.resize(mask_.size());
  }

  bool accept(TokenId token) override {
    if (token < 0 || token >= tokens_ || matcher_.IsTerminated()) return false;
    const bool ends = (ending_[static_cast<size_t>(token) / 32] >> (token % 32) & 1) != 0;
    if (ends && !matcher_.IsCompleted()) return false;
    try {
      if (!matcher_.AcceptToken(token)) return false;
    } catch (const std::exception&) {
      return false;
    }
    ++accepted_;
    return true;
  }

  bool fill(std::span<uint32_t> allowed) override {
    next_tokens();
    bool any = false;
    for (size_t i = 0; i < allowed.size(); ++i) {
      allowed[i] &= i < mask_.size() ? static_cast<uint32_t>(mask_[i]) : 0;
      any = any || allowed[i] != 0;
    }
    return any;
  }

  void rollback(int64_t tokens) override {
    tokens = std::clamp<int64_t>(tokens, 0, accepted_);
    if (tokens > 0) matcher_.Rollback(static_cast<int>(tokens));
    accepted_ -= tokens;
  }

  bool finished() override {
    if (matcher_.IsTerminated()) return true;
    if (!matcher_.IsCompleted()) return false;
    next_tokens();
    for (size_t i = 0; i < mask_.size(); ++i)
      if ((static_cast<uint32_t>(mask_[i]) & ~ending_[i]) != 0) return false;
    return true;
  }

 private:
  void next_tokens() {
    if (matcher_.IsTerminated()) {
      std::copy(ending_.begin(), ending_.end(), mask_.begin());
      return;
    }
    int64_t shape = static_cast<int64_t>(mask_.size());
    DLTensor tensor{.data = mask_.data(),
                    .device = {kDLCPU, 0},
                    .ndim = 1,
                    .dtype = xgrammar::GetBitmaskDLType(),
                    .shape = &shape,
                    .strides = nullptr,
                    .byte_offset = 0};
    try {
      matcher_.FillNextTokenBitmask(&tensor);
    } catch (const std::exception&) {
      // Without a mask no token can be known to fit: the answer ends with what it has.
      std::fill(mask_.begin(), mask_.end(), 0);
    }
    // What lies behind the vocabulary in the last word is no token.
    if (tokens_ % 32 != 0)
      mask_.back() =
          static_cast<int32_t>(static_cast<uint32_t>(mask_.back()) & ((1u << (tokens_ % 32)) - 1));
  }

  std::shared_ptr<const CompiledGrammar> grammar_;
  xgrammar::GrammarMatcher matcher_;
  int tokens_;
  std::vector<int32_t> mask_;
  std::vector<uint32_t> ending_;
  int64_t accepted_ = 0;
};

class Core final : public GrammarCore {
 public:
  Core(const std::vector<std::string>& bytes, std::vector<int32_t> ending)
      : compiler_(xgrammar::TokenizerInfo(bytes, xgrammar::VocabType::RAW, std::nullopt,
                                          std::move(ending)),
                  1, true, grammar_limits::kCoreCacheBytes) {
    for (const std::string& token : bytes)
      if (!token.empty()) ++first_bytes_[static_cast<unsigned char>(token[0])];
  }

  Compiled compile(const std::string& ebnf) override {
    return guarded([&] { return compiler_.CompileGrammar(xgrammar::Grammar::FromEBNF(ebnf)); });
  }
  Compiled compile_schema_as_it_is(const std::string& schema) override {
    warnings_count_ = false;
    Compiled out = guarded([&] {
      return compiler_.CompileJSONSchema(schema, true, std::nullopt, std::nullopt, false);
    });
    warnings_count_ = true;
    return out;
  }
  [[nodiscard]] const FirstBytes& first_bytes() const override { return first_bytes_; }
  [[nodiscard]] size_t cached_bytes() const override {
    return static_cast<size_t>(compiler_.GetCacheSizeBytes());
  }

 private:
  template <typename Compile>
  Compiled guarded(const Compile& compile) {
    Compiled out = memory_error("grammar: no thread with a stack of " +
                                std::to_string(grammar_limits::kStackBytes >> 20) +
                                " MiB could be started to compile it");
    on_large_stack([&] {
      std::string warning;
      first_warning = &warning;
      try {
        xgrammar::CompiledGrammar grammar = compile();
        if (warning.empty() || !warnings_count_)
          out = std::shared_ptr<const CompiledGrammar>(
              std::make_shared<Compiled_>(std::move(grammar)));
        else
          out = refused(warning);
      } catch (const std::bad_alloc&) {
        out = memory_error("grammar: not enough memory to compile it");
      } catch (const std::exception& e) {
        out = refused(e.what());
      }
      first_warning = nullptr;
    });
    return out;
  }
  static Error refused(const std::string& why) {
    return usage_error("grammar: " + printable(why, 300));
  }

  xgrammar::GrammarCompiler compiler_;
  FirstBytes first_bytes_{};
  bool warnings_count_ = true;
};

}  // namespace

Result<std::unique_ptr<GrammarCore>> GrammarCore::create(const std::vector<std::string>& bytes,
                                                         std::span<const TokenId> ending) {
  try {
    // Fixed here, since xgrammar would take it from the environment.
    xgrammar::SetMaxRecursionDepth(10000);
    return Result<std::unique_ptr<GrammarCore>>(
        std::make_unique<Core>(bytes, std::vector<int32_t>(ending.begin(), ending.end())));
  } catch (const std::bad_alloc&) {
    return memory_error("grammar: not enough memory for the vocabulary");
  } catch (const std::exception& e) {
    return failed("grammar: the vocabulary cannot be used: " + printable(e.what(), 300));
  }
}

std::unique_ptr<GrammarMatcher> make_matcher(std::shared_ptr<const CompiledGrammar> grammar) {
  return std::make_unique<Matcher>(std::move(grammar));
}

}  // namespace hadal
