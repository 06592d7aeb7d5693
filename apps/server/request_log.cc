#include "server/request_log.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>

#include "checkpoint/printable.h"

namespace hadal::server {
namespace {

constexpr size_t kShown = 200;  ///< of a client's text

std::string now_text() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[40], whole[48];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(whole, sizeof whole, "%s.%03dZ", text, static_cast<int>(ms.count() % 1000));
  return whole;
}

std::string seconds_text(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, seconds < 1 ? "%.3f s" : "%.2f s", seconds);
  return text;
}

}  // namespace

std::string text_line(const RequestRecord& r) {
  std::string line = now_text() + " " + printable(r.method, 16) + " " + printable(r.path, kShown) +
                     " " + std::to_string(r.status) + " " + seconds_text(r.seconds);
  if (r.usage.prompt_tokens > 0) {
    line += ", " + std::to_string(r.usage.prompt_tokens) + " prompt tokens";
    if (r.usage.cached_tokens > 0)
      line += " (" + std::to_string(r.usage.cached_tokens) + " cached)";
    line += ", " + std::to_string(r.usage.completion_tokens) + " new";
  }
  if (r.first_token_seconds >= 0) line += ", first after " + seconds_text(r.first_token_seconds);
  if (!r.end.empty()) line += ", " + printable(r.end, kShown);
  if (!r.model.empty()) line += ", model " + printable(r.model, kShown);
  if (!r.key.empty()) line += ", key " + printable(r.key, kShown);
  line += ", from " + printable(r.peer, kShown) + ", id " + printable(r.id, kShown);
  if (!r.trace.empty()) line += ", trace " + r.trace;
  if (!r.ignored.empty()) {
    line += ", ignored";
    for (const std::string& name : r.ignored) line += " " + printable(name, 60);
  }
  if (!r.error.empty()) line += ": " + printable(r.error, 600);
  return line;
}

std::string json_line(const RequestRecord& r) {
  Json json;
  json["time"] = now_text();
  json["method"] = r.method;
  json["path"] = r.path;
  json["status"] = r.status;
  json["seconds"] = r.seconds;
  if (r.first_token_seconds >= 0) json["first_token_seconds"] = r.first_token_seconds;
  json["prompt_tokens"] = r.usage.prompt_tokens;
  json["cached_tokens"] = r.usage.cached_tokens;
  json["new_tokens"] = r.usage.completion_tokens;
  json["thought_tokens"] = r.usage.reasoning_tokens;
  for (const auto& [name, value] :
       {std::pair{"end", &r.end}, std::pair{"model", &r.model}, std::pair{"key", &r.key},
        std::pair{"peer", &r.peer}, std::pair{"request_id", &r.id}, std::pair{"trace_id", &r.trace},
        std::pair{"error", &r.error}})
    if (!value->empty()) json[name] = *value;
  if (!r.ignored.empty()) json["ignored"] = r.ignored;
  return json_text(json);
}

std::string trace_id(std::string_view traceparent) {
  // "00-" 32 hex "-" 16 hex "-" 2 hex
  const auto hex = [](std::string_view text) {
    return std::all_of(text.begin(), text.end(),
                       [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  };
  if (traceparent.size() != 55 || !traceparent.starts_with("00-") || traceparent[35] != '-' ||
      traceparent[52] != '-')
    return {};
  const std::string_view trace = traceparent.substr(3, 32);
  const bool sound = hex(trace) && hex(traceparent.substr(36, 16)) && hex(traceparent.substr(53)) &&
                     trace.find_first_not_of('0') != std::string_view::npos;
  return sound ? std::string(trace) : std::string();
}

}  // namespace hadal::server
