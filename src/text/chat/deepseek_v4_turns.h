// The skeleton that DeepSeek-V4 and V4.1 share. Tool results stand inside user turns, in the order
// of the calls; tools are declared behind the system text; thoughts are left out, all of them,
// unless tools are declared: then all stay. Thinking is the default.
//
// Sources: PyPI `deepseek-recipe` 0.2.0 (V4 as of 0813, V4.1), the README of the checkpoints'
// encoding/. Not taken over: V4's recipe sorts calls by their ids, which is their own order where
// the ids are the API's; here they stay in the message's order, as in the checkpoint's own encoder.
// V4.1's recipe drops a reminder right behind another; here both stand.
#pragma once

#include "text/chat/dsml.h"

namespace hadal::chat {

struct V4Style {
  std::string_view format;
  DsmlTags tags;
  /// System messages stand in their places behind <｜System｜>, and the parts of a user turn are
  /// joined even if empty (V4.1); else system messages go to the front, and empty text does not
  /// count.
  bool system_turns = false;
  /// What a thinking model is told about its effort, 1 to 100; "" for nothing.
  std::string (*effort_text)(int effort) = nullptr;
  bool numeric_effort = false;  ///< a request may give the number itself
};

Result<Prompt> render_deepseek_v4_turns(const ChatRequest& request, const V4Style& style);

}  // namespace hadal::chat
