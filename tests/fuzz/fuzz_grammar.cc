// Grammars: any schema, regex or EBNF is refused in words or compiled, and what is compiled lets
// through what its own masks allow.
//
// Input: one byte that chooses the kind, then the source. The vocabulary is one of single bytes.
#include <cstddef>
#include <cstdint>
#include <string>

#include "text/grammar/grammar.h"
#include "text/tokenizer/tokenizer.h"

namespace {

hadal::GrammarCompiler& compiler() {
  static const auto made = [] {
    hadal::TokenizerData data;
    data.gguf_model = "gpt2";
    data.gguf_pre = "qwen2";
    for (int byte = 0, next = 256; byte < 256; ++byte) {
      const bool shown = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
      const int code = shown ? byte : next++;
      data.tokens.push_back(code < 0x80 ? std::string(1, static_cast<char>(code))
                                        : std::string{static_cast<char>(0xC0 | (code >> 6)),
                                                      static_cast<char>(0x80 | (code & 0x3F))});
      data.token_types.push_back(1);
    }
    data.tokens.emplace_back("<end>");
    data.token_types.push_back(3);
    data.eos_token_id = 256;
    auto tokenizer = hadal::Tokenizer::create(data, "fuzz");
    HADAL_CHECK(tokenizer.has_value());
    auto out = hadal::GrammarCompiler::create(**tokenizer, (*tokenizer)->ending());
    HADAL_CHECK(out.has_value());
    return *std::move(out);
  }();
  return *made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  constexpr hadal::GrammarKind kKinds[] = {hadal::GrammarKind::kJsonSchema,
                                           hadal::GrammarKind::kRegex, hadal::GrammarKind::kEbnf};
  const auto grammar =
      compiler().compile({.kind = kKinds[data[0] % 3],
                          .text = std::string(reinterpret_cast<const char*>(data) + 1, size - 1)});
  if (!grammar) {
    HADAL_CHECK(!grammar.error().message.empty());
    return 0;
  }
  const auto matcher = hadal::make_matcher(*grammar);
  for (uint32_t step = 0; step < 24; ++step) {
    uint32_t mask[9];
    for (uint32_t& word : mask) word = ~0u;
    if (!matcher->fill(mask)) return 0;
    for (uint32_t i = 0; i < 257; ++i) {
      const uint32_t token = (i + step * 37) % 257;
      if ((mask[token / 32] >> (token % 32) & 1) == 0) continue;
      HADAL_CHECK(matcher->accept(static_cast<int32_t>(token)));
      break;
    }
  }
  matcher->rollback(24);
  return 0;
}
