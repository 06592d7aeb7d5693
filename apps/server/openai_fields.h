// The fields that /v1/chat/completions and /v1/completions share.
//
// Three kinds of fields. Those that are obeyed, with the ranges of base/limits.h. Those that would
// change the answer and are not built are refused in words, unless they ask for what happens anyway
// ("use_beam_search": false). All others change no answer (user, metadata, store, …) or are
// unknown: DeepSeek and vLLM take no offence at these, and clients written for many servers send
// them, so they are let pass; OpenAI refuses them. Unknown ones are listed in ApiCall::ignored, so
// that a caller can say so, or refuse them in turn.
//
// DeepSeek's service takes temperature and the penalties of a thinking model without effect. Here
// they are obeyed, as everywhere else: a seed or a temperature of 0 is asked for to have it.
#pragma once

#include "server/call.h"
#include "server/fields.h"

namespace hadal::server {

/// All that both APIs have, without n's bound on choices. `response_format` is read here too.
Status read_common(Fields& fields, ApiCall& call);

/// "max_tokens" (and the newer name): none if it is left out.
Result<std::optional<int64_t>> read_max_tokens(Fields& fields);

}  // namespace hadal::server
