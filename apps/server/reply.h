// Reply: how one API tells what came of a call: whole, or as a stream while it is generated.
//
// Owns the form of the answer on the wire and nothing else. One object answers one call; the caller
// (running_call.h) hands it what is new, one call at a time, from one thread at a time.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/api_error.h"
#include "session/answer.h"
#include "text/output/output.h"

namespace hadal::server {

using Json = nlohmann::ordered_json;

/// The same in all parts of one response.
struct ReplyHead {
  std::string id = {};           ///< "chatcmpl-…", "cmpl-…"
  int64_t created = 0;           ///< seconds since 1970
  std::string model = {};        ///< what answered
  std::string fingerprint = {};  ///< under which the same request has the same bits
};

/// One of a token's rivals.
struct TokenChance {
  std::string bytes = {};
  float logprob = 0;
};

/// A token with its log-probability.
struct ScoredToken {
  std::string bytes = {};             ///< its text; may be part of a character
  std::optional<float> logprob = {};  ///< none: the first token of a prompt
  std::vector<TokenChance> top = {};  ///< most likely first
};

/// Tokens of all choices together; the prompt counts once.
struct UsageCounts {
  int64_t prompt_tokens = 0, completion_tokens = 0;
  int64_t reasoning_tokens = 0;  ///< of completion_tokens
  int64_t cached_tokens = 0;     ///< of prompt_tokens: found in the prefix cache

  UsageCounts& operator+=(const UsageCounts& more);
};

/// One answer, whole.
struct Choice {
  int64_t index = 0;
  std::string reasoning = {}, content = {};  ///< of a completion with echo, the prompt in front
  std::vector<ToolCall> tool_calls = {};
  AnswerEnd end = AnswerEnd::kStop;
  std::string stop = {};  ///< the stop text that ended it, "" if none did
  /// With options.logprobs: tokens of the thought and of the content.
  std::vector<ScoredToken> reasoning_tokens = {}, content_tokens = {};
};

/// What became certain of one answer, with the tokens that it consists of.
struct ChoiceDelta {
  OutputDelta text = {};
  std::vector<ScoredToken> reasoning_tokens = {}, content_tokens = {};
};

class Reply {
 public:
  explicit Reply(ReplyHead head) : head_(std::move(head)) {}
  Reply(const Reply&) = delete;
  Reply& operator=(const Reply&) = delete;
  virtual ~Reply() = default;

  /// Before anything of it is written: it may have waited while the devices became others.
  void computed_by(std::string fingerprint) { head_.fingerprint = std::move(fingerprint); }

  /// The body of the whole response.
  virtual std::string whole(const std::vector<Choice>& choices, const UsageCounts& usage) = 0;

  // A stream: begin(), push() as it comes, end() of each answer, finish(). Each returns bytes for
  // the wire, "" where nothing of it is shown.

  /// The first bytes, when the first token is there; `usage` has the prompt's numbers.
  virtual std::string begin(const UsageCounts& usage) = 0;
  virtual std::string push(int64_t choice, const ChoiceDelta& delta) = 0;
  /// An answer is over; all of it was pushed. `all`: usage of the whole, where it is the last.
  virtual std::string end(const Choice& choice, const UsageCounts* all) = 0;
  virtual std::string finish(const UsageCounts& usage) = 0;
  /// Instead of all that is left: the stream cannot go on.
  virtual std::string fail(const ApiError& error) = 0;
  /// Says that the server lives, while nothing else is said.
  [[nodiscard]] virtual std::string ping() const { return ": keep-alive\n\n"; }
  [[nodiscard]] virtual std::string_view stream_type() const { return "text/event-stream"; }

 protected:
  ReplyHead head_;
};

/// "event: NAME\ndata: JSON\n\n", without the first line where the name is empty.
std::string server_sent_event(std::string_view name, std::string_view data);

/// The id of a call where the model gave none: the same in a response and in its stream.
/// `call`: its number among the answer's whole calls.
std::string tool_call_id(const ReplyHead& head, int64_t choice, size_t call);

/// JSON text; what is no UTF-8 is replaced.
std::string json_text(const Json& value);

}  // namespace hadal::server
