#include "text/chat/fim.h"

#include "text/chat/deepseek_marks.h"

namespace hadal {

Result<Prompt> render_fim(std::string_view prefix, std::string_view suffix,
                          const Tokenizer& tokenizer) {
  constexpr std::string_view kBegin = "<｜fim▁begin｜>", kHole = "<｜fim▁hole｜>",
                             kEnd = "<｜fim▁end｜>";
  for (const std::string_view mark : {kBegin, kHole, kEnd})
    if (!tokenizer.id_of(mark))
      return usage_error("suffix: the model cannot fill in the middle: its tokenizer has no " +
                         std::string(mark));
  chat::PromptBuilder out;
  out.control(chat::kBos).control(kBegin).plain(prefix).control(kHole).plain(suffix).control(kEnd);
  return out.finish(false, true);
}

}  // namespace hadal
