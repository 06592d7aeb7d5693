// Api: what the server needs to know of each API, in one table: how its bodies are read, how its
// answers are told, what its errors look like.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/api_error.h"
#include "server/call.h"
#include "server/fields.h"
#include "server/openai_responses.h"
#include "server/reply.h"
#include "server/routes.h"

namespace hadal::server {

/// What the reading of a body may need beside it.
struct ApiContext {
  int64_t context = 0;       ///< tokens of the longest sequence
  ResponseFinder find = {};  ///< of what is stored for who asks; may be empty
  ResponseSink store = {};   ///< may be empty
};

/// A body that was read.
class ReadCall {
 public:
  virtual ~ReadCall() = default;
  virtual ApiCall& common() = 0;
  /// The response to a call that asks for no answer.
  [[nodiscard]] virtual std::optional<std::string> at_once(const ReplyHead& head) const = 0;
  /// Before the call is taken.
  [[nodiscard]] virtual std::unique_ptr<Reply> reply(ReplyHead head) const = 0;
  virtual Call take() = 0;
};

struct Api {
  Endpoint endpoint;
  std::string_view id_prefix;  ///< of its responses' ids
  Result<std::unique_ptr<ReadCall>> (*read)(const Json& body, const ApiContext& context);
};

/// Null where the endpoint answers no calls.
const Api* find_api(Endpoint endpoint);

/// The body of an error, in the shape of the API.
std::string error_body_of(ApiKind api, const ApiError& error, std::string_view request_id);

}  // namespace hadal::server
