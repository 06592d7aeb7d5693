// Tokenizer: no tokenizer.json and no text makes it crash or hang; ids are in range; a stream of
// them is valid UTF-8 at every step and in sum what their bytes are.
//
// Input: a tokenizer.json, a byte 0xFF, the text.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/utf8.h"

namespace {

void check(const hadal::Tokenizer& tokenizer, std::string_view text, bool added_tokens) {
  std::vector<hadal::TokenId> ids;
  try {
    ids = tokenizer.encode(text, {.added_tokens = added_tokens});
  } catch (const std::runtime_error&) {
    return;  // it gave up
  }
  hadal::StreamDecoder stream(tokenizer, false);
  std::string streamed;
  for (const hadal::TokenId id : ids) {
    HADAL_CHECK(id >= 0 && id < tokenizer.vocab_size());
    const std::string part = stream.push(id);
    HADAL_CHECK(hadal::utf8_valid(part));
    streamed += part;
  }
  streamed += stream.finish();
  HADAL_CHECK(streamed == hadal::utf8_repaired(tokenizer.decode(ids)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\xFF'), size);
  hadal::TokenizerData source;
  source.tokenizer_json = input.substr(0, end);
  const auto tokenizer = hadal::Tokenizer::create(source, "fuzz");
  if (!tokenizer) return 0;
  const std::string_view text = input.substr(std::min(end + 1, size));
  check(**tokenizer, text, true);
  check(**tokenizer, text, false);
  return 0;
}
