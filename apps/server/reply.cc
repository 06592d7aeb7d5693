#include "server/reply.h"

namespace hadal::server {

UsageCounts& UsageCounts::operator+=(const UsageCounts& more) {
  prompt_tokens += more.prompt_tokens;
  completion_tokens += more.completion_tokens;
  reasoning_tokens += more.reasoning_tokens;
  cached_tokens += more.cached_tokens;
  return *this;
}

std::string server_sent_event(std::string_view name, std::string_view data) {
  std::string event;
  event.reserve(name.size() + data.size() + 17);
  if (!name.empty()) event.append("event: ").append(name).append("\n");
  return event.append("data: ").append(data).append("\n\n");
}

std::string tool_call_id(const ReplyHead& head, int64_t choice, size_t call) {
  const size_t dash = head.id.find_last_of("-_");
  return "call_" + (dash == std::string::npos ? head.id : head.id.substr(dash + 1)) + "_" +
         std::to_string(choice) + "_" + std::to_string(call);
}

std::string json_text(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace hadal::server
