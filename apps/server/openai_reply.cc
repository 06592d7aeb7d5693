#include "server/openai_reply.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "text/tokenizer/utf8.h"

namespace hadal::server {
namespace {

constexpr double kLeastLogprob = -9999;

Json bytes_json(const std::string& bytes) {
  Json list = Json::array();
  for (const char byte : bytes) list.push_back(static_cast<unsigned char>(byte));
  return list;
}

/// The legacy form has no bytes beside the text: part of a character is written as its bytes.
std::string legacy_token(const std::string& bytes) {
  if (utf8_valid(bytes)) return bytes;
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text = "bytes:";
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    text += "\\x";
    text += kHex[byte >> 4];
    text += kHex[byte & 15];
  }
  return text;
}

/// Characters that begin in these bytes.
int64_t characters(const std::string& bytes) {
  return std::count_if(bytes.begin(), bytes.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

}  // namespace

Json usage_json(const UsageCounts& usage) {
  Json json;
  json["prompt_tokens"] = usage.prompt_tokens;
  json["completion_tokens"] = usage.completion_tokens;
  json["total_tokens"] = usage.prompt_tokens + usage.completion_tokens;
  json["prompt_cache_hit_tokens"] = usage.cached_tokens;
  json["prompt_cache_miss_tokens"] = usage.prompt_tokens - usage.cached_tokens;
  json["prompt_tokens_details"] = {{"cached_tokens", usage.cached_tokens}};
  json["completion_tokens_details"] = {{"reasoning_tokens", usage.reasoning_tokens}};
  return json;
}

std::string_view finish_reason(AnswerEnd end, bool calls_tools) {
  switch (end) {
    case AnswerEnd::kStop:
      return calls_tools ? "tool_calls" : "stop";
    case AnswerEnd::kLength:
    case AnswerEnd::kContext:
      return "length";
    case AnswerEnd::kDeadline:
    case AnswerEnd::kInterrupted:
      break;
  }
  return "insufficient_system_resource";
}

double json_logprob(float logprob) {
  if (!(static_cast<double>(logprob) > kLeastLogprob)) return kLeastLogprob;
  std::array<char, 64> text{};
  const auto written = std::to_chars(text.data(), text.data() + text.size(), logprob);
  double value = 0;
  std::from_chars(text.data(), written.ptr, value);
  return value;
}

Json chat_logprobs(const std::vector<ScoredToken>& tokens) {
  const auto entry = [](const std::string& bytes, float logprob) {
    Json json;
    json["token"] = utf8_repaired(bytes);
    json["logprob"] = json_logprob(logprob);
    json["bytes"] = bytes_json(bytes);
    return json;
  };
  Json list = Json::array();
  for (const ScoredToken& token : tokens) {
    Json json = entry(token.bytes, token.logprob.value_or(0));
    Json& top = json["top_logprobs"] = Json::array();
    for (const TokenChance& rival : token.top) top.push_back(entry(rival.bytes, rival.logprob));
    list.push_back(std::move(json));
  }
  return list;
}

Json legacy_logprobs(const std::vector<ScoredToken>& tokens, int64_t& offset) {
  Json names = Json::array(), chances = Json::array(), tops = Json::array(),
       offsets = Json::array();
  for (const ScoredToken& token : tokens) {
    names.push_back(legacy_token(token.bytes));
    chances.push_back(token.logprob ? Json(json_logprob(*token.logprob)) : Json());
    Json top = Json::object();
    // Of two tokens with one text the likelier comes first, and stays.
    for (const TokenChance& rival : token.top)
      top.emplace(legacy_token(rival.bytes), json_logprob(rival.logprob));
    tops.push_back(token.logprob ? std::move(top) : Json());
    offsets.push_back(offset);
    offset += characters(token.bytes);
  }
  Json json;
  json["tokens"] = std::move(names);
  json["token_logprobs"] = std::move(chances);
  json["top_logprobs"] = std::move(tops);
  json["text_offset"] = std::move(offsets);
  return json;
}

std::string openai_stream_error(const ApiError& error) {
  return server_sent_event("", error_body(error));
}

}  // namespace hadal::server
