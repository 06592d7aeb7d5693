// The items of the Responses API: what a body brings, in one form, and the chat that they tell.
//
// An item is a message, a thought, a call or its output. What comes in is read into the form in
// which input_items are listed and responses are stored: each with its type, its status and an id,
// which is "" where the client gave none (name_items() gives it one when the response has its own).
// Items of earlier responses that are referred to, by previous_response_id or by item_reference,
// are looked up here, too.
//
// Refused, with the path: images, audio, files, and the items of hosted tools.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/fields.h"
#include "server/response_store.h"
#include "text/chat/chat.h"

namespace hadal::server {

/// Id of an item: "msg", "resp_4f", "0" give "msg_4f_0".
std::string item_id(std::string_view kind, std::string_view response_id, std::string_view number);
/// Id of the response that such an item is of: "msg_4f_0" gives "resp_4f"; "" where it is none.
std::string response_of_item(std::string_view id);

/// A body's "input": a text, or a list of items. `find` may be empty: nothing is stored then.
/// Errors: kUsage with the path, kNotFound for a reference.
Result<Json> read_input(const Json& input, const ResponseFinder& find);

/// The items of an earlier response, its output last. Errors: kUsage where nothing is stored,
/// kNotFound, kFailed of the store.
Result<Json> read_previous(const std::string& id, const ResponseFinder& find);

/// Gives each item without an id one.
void name_items(Json& items, std::string_view response_id);

/// Items as turns. A thought, a text and calls that follow each other are one turn of the
/// assistant's; calls that broke off are no part of it, as their text is.
std::vector<ChatMessage> messages_of(const Json& items);

}  // namespace hadal::server
