#include "text/output/output.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "text/output/parsers.h"

namespace hadal {
namespace {

struct Kind {
  std::string_view name;
  bool thoughts = false;
  const CallSyntax* calls = nullptr;
  bool always_thinks = false;  ///< see think.cc
};

constexpr std::array<Kind, 8> kKinds = {{
    {"text"},
    {"think", true},
    {"deepseek-tools", false, &kDeepSeekCalls},
    {"think-deepseek-tools", true, &kDeepSeekCalls, true},
    {"think-deepseek-v3.1-tools", true, &kDeepSeekV31Calls},
    {"think-dsml-function-calls", true, &kDsmlV32Calls},
    {"think-dsml-tool-calls", true, &kDsmlV4Calls},
    {"think-dsml-calls", true, &kDsmlV41Calls},
}};

constexpr auto kNames = [] {
  std::array<std::string_view, kKinds.size()> names;
  for (size_t i = 0; i < names.size(); ++i) names[i] = kKinds[i].name;
  return names;
}();

Result<const Kind*> find_kind(std::string_view name) {
  const ChatFormat* chat = find_chat_format(name);
  for (const Kind& kind : kKinds)
    if (kind.name == (chat ? chat->output_parser : name)) return &kind;
  std::string known;
  for (const Kind& kind : kKinds) known += (known.empty() ? "" : ", ") + std::string(kind.name);
  for (const ChatFormat& format : chat_formats()) known += ", " + std::string(format.name);
  return usage_error("the output format '" + std::string(name) + "' is unknown; known are " +
                     known);
}

}  // namespace

void OutputDelta::append(OutputDelta later) {
  reasoning += later.reasoning;
  content += later.content;
  std::move(later.tool_calls.begin(), later.tool_calls.end(), std::back_inserter(tool_calls));
  auto piece = later.call_pieces.begin();
  if (!call_pieces.empty() && piece != later.call_pieces.end() &&
      call_pieces.back().index == piece->index) {
    call_pieces.back().arguments += piece->arguments;
    call_pieces.back().completes = piece->completes;
    ++piece;
  }
  std::move(piece, later.call_pieces.end(), std::back_inserter(call_pieces));
}

Result<std::unique_ptr<OutputParser>> make_output_parser(std::string_view format, bool thinking,
                                                         AnswerStart start) {
  HADAL_TRY(const Kind* kind, find_kind(format));
  std::unique_ptr<TextParser> text = kind->thoughts
                                         ? make_think_parser(thinking, start, kind->always_thinks)
                                         : make_content_parser();
  if (!kind->calls) return Result<std::unique_ptr<OutputParser>>(std::move(text));
  return make_call_list_parser(*kind->calls, std::move(text));
}

Result<bool> output_starts_in_thought(std::string_view format) {
  HADAL_TRY(find_kind(format));
  const ChatFormat* chat = find_chat_format(format);
  if (!chat) return false;
  ChatRequest question;
  question.messages.push_back({.role = "user", .content = "?"});
  HADAL_TRY(const Prompt prompt, chat->render(question, nullptr));
  return prompt.thinking;
}

std::span<const std::string_view> output_parsers() { return kNames; }

}  // namespace hadal
