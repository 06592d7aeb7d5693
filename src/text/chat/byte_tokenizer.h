// For tests: a tokenizer small enough to count its ids.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <memory>
#include <string>

#include "text/tokenizer/tokenizer.h"

namespace hadal {

/// A tokenizer of single bytes, two merges (ids 256 and 257), and `markers` of a GGUF's type, by
/// default control tokens. (The id of a visible character of ASCII is its code.)
inline std::unique_ptr<Tokenizer> byte_tokenizer(std::initializer_list<const char*> markers,
                                                 int32_t type = 3) {
  TokenizerData data;
  data.gguf_model = "gpt2";
  data.gguf_pre = "qwen2";
  const auto utf8 = [](int code) {
    return code < 0x80 ? std::string(1, static_cast<char>(code))
                       : std::string{static_cast<char>(0xC0 | (code >> 6)),
                                     static_cast<char>(0x80 | (code & 0x3F))};
  };
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool shown = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    data.tokens.push_back(utf8(shown ? byte : next++));
    data.token_types.push_back(1);
  }
  const std::string newline = data.tokens['\n'];
  data.merges = {newline + " " + newline, "H i"};
  for (const std::string& merged : {newline + newline, std::string("Hi")}) {
    data.tokens.push_back(merged);
    data.token_types.push_back(1);
  }
  for (const char* marker : markers) {
    data.tokens.emplace_back(marker);
    data.token_types.push_back(type);
  }
  data.eos_token_id = 259;
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::create(data, "test");
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  return tokenizer ? *std::move(tokenizer) : nullptr;
}

}  // namespace hadal
