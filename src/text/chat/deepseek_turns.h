// The skeleton that DeepSeek's models share from V2.5 to R1-0528: BOS, system text,
// <｜User｜>…<｜Assistant｜>…EOS, and tool turns.
//
// Official templates: tokenizer_config.json of DeepSeek-V2.5, -V3, -V3-0324, -R1, -R1-Distill-*,
// -R1-0528(-Qwen3-8B). They differ in what DeepSeekStyle holds. Faults of the older ones (V2.5, V3,
// R1 and its distillations) are not repeated: they close a list of tool calls only where it has two
// or more, never begin a second one, and drop the text before it or the end of the results; here
// all of that is as in the later templates. Nor do we repeat the blanks that V2.5's template writes
// before BOS for a system message.
#pragma once

#include "text/chat/format.h"

namespace hadal::chat {

struct DeepSeekStyle {
  std::string_view format;
  bool joins_systems =
      true;  ///< all system messages count, joined by a blank line; false: the last one alone
  bool assistant_after_user = false;  ///< <｜Assistant｜> follows each user message at once (0324,
                                      ///< 0528), not before each answer
  bool newline_between_results = true;
  bool cuts_thoughts = false;  ///< of an earlier answer, what stands before </think> is left out
  bool opens_thought = false;  ///< the generation prompt ends in <think>
  bool thinks = false;         ///< the model thinks, whether or not the prompt opens the thought
};

Result<Prompt> render_deepseek_turns(const ChatRequest& request, const DeepSeekStyle& style);

/// Marks of the family up to R1-0528: V3.1 and later declare and call tools otherwise.
bool has_deepseek_turns(std::string_view chat_template);

}  // namespace hadal::chat
