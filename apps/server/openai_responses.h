// POST /v1/responses without HTTP, and what is kept of it: a body becomes a ResponsesCall, an
// answer becomes a response or the events of a stream, and, where the server has a store
// (response_store.h), an entry of it. The API is OpenAI's, with vLLM's names for what it lacks.
//
// Obeyed: input and instructions (responses_items.h), previous_response_id, store, tools,
// tool_choice, parallel_tool_calls (responses_tools.h), text.format, reasoning.effort,
// max_output_tokens, temperature, top_p, include "message.output_text.logprobs" with top_logprobs,
// stream, metadata; and seed, penalties, stop, logit_bias, structured_outputs, thinking,
// enable_thinking, thinking_token_budget and what else call_fields.h has.
//
// Refused: background, conversation, prompt, truncation "auto" (a prompt is never cut), hosted
// tools, images, audio, files, text.verbosity but "medium". Without effect: reasoning.summary (the
// thought itself is in the answer, and no summary), max_tool_calls (it counts calls of hosted
// tools), "reasoning.encrypted_content", service_tier. Fields that nobody knows are listed in
// ApiCall::ignored.
//
// Errors have OpenAI's shape: error_body() of api_error.h.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "server/call.h"
#include "server/fields.h"
#include "server/reply.h"
#include "server/response_store.h"

namespace hadal::server {

/// What a Responses body says; its chat is that of any other call.
struct ResponsesCall : ChatCall {
  bool store = true;  ///< the client lets the response be stored
  Json items = {};    ///< all that goes in but instructions: earlier items and the input's
  Json echo = {};     ///< the request's fields that the response repeats
};

/// `find` looks up the client's stored responses; empty: there is no store. Errors: kUsage with the
/// path of the field; kNotFound of previous_response_id and item references; kFailed of the store.
Result<ResponsesCall> parse_responses_call(std::string_view body, const ResponseFinder& find);
/// The same of a body that was read already (by parse_body, or as part of something larger).
Result<ResponsesCall> read_responses_call(const Json& body, const ResponseFinder& find);

/// Takes what is to be stored of a response that is over: before the client learns that it is. Not
/// called of one that failed by Reply::fail, or whose call says "store": false.
using ResponseSink = std::function<void(const std::string& id, StoredResponse stored)>;

/// The response, or its stream of events. `head.id` is "resp_…", and ids of items are made of it.
/// Items never interleave. A call that was begun in a stream and breaks off is an item with the
/// status "incomplete", and what was written of it follows as text. `store` may be empty.
std::unique_ptr<Reply> make_responses_reply(ReplyHead head, const ResponsesCall& call,
                                            ResponseSink store);

// ---- the routes of stored responses; GET /v1/responses/{id} is StoredResponse::response.

/// The query of GET /v1/responses/{id}/input_items, as it came; "" where a part is left out.
struct ItemsQuery {
  std::string limit = {};  ///< 1 to 100; 20 if left out
  std::string order = {};  ///< "asc" or "desc"; desc if left out
  std::string after = {};  ///< id of the item behind which the list begins
};
/// Body of the list. Errors: kUsage with the parameter's name, kFailed of a broken store.
Result<std::string> list_input_items(const StoredResponse& stored, const ItemsQuery& query);

/// Body of DELETE /v1/responses/{id}, once it is erased.
std::string deleted_response(const std::string& id);

/// What POST /v1/responses/{id}/cancel is answered with: nothing runs in the background.
Error cancel_refused();

}  // namespace hadal::server
