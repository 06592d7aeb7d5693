// Fill in the middle: DeepSeek-Coder v1 and V2, and V3 and later, which keep the tokens.
#pragma once

#include <string_view>

#include "text/chat/chat.h"

namespace hadal {

/// <｜fim▁begin｜>prefix<｜fim▁hole｜>suffix<｜fim▁end｜> behind BOS: the hole stands before the
/// suffix. The answer is what belongs between them. Errors: kUsage where the tokenizer lacks the
/// tokens.
Result<Prompt> render_fim(std::string_view prefix, std::string_view suffix,
                          const Tokenizer& tokenizer);

}  // namespace hadal
