#include "session/answer.h"

#include <algorithm>

namespace hadal {
namespace {

AnswerEnd end_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return AnswerEnd::kLength;
    case FinishReason::kContext:
      return AnswerEnd::kContext;
    case FinishReason::kDeadline:
      return AnswerEnd::kDeadline;
    case FinishReason::kNone:
    case FinishReason::kEnding:
    case FinishReason::kError:
      break;
  }
  return AnswerEnd::kStop;
}

}  // namespace

double Usage::tokens_per_second() const {
  const double seconds = total_seconds - first_token_seconds;
  return new_tokens > 1 && seconds > 0 ? static_cast<double>(new_tokens - 1) / seconds : 0;
}

std::string_view name_of(AnswerEnd end) {
  constexpr std::string_view kNames[] = {"stop", "length", "context full", "deadline",
                                         "interrupted"};
  return kNames[static_cast<size_t>(end)];
}

AnswerBuilder::AnswerBuilder(std::optional<AnswerStream> stream, Options options)
    : stream_(std::move(stream)), options_(std::move(options)) {
  answer_.usage.prompt_tokens = options_.prompt_tokens;
}

/// Takes in what is new. Of an answer with one call, nothing behind that call stays in it.
void AnswerBuilder::add(OutputDelta& delta) {
  if (options_.one_call && !answer_.tool_calls.empty()) delta = {};
  if (options_.one_call && delta.tool_calls.size() > 1) delta.tool_calls.resize(1);
  if (options_.one_call && !delta.tool_calls.empty()) {
    auto& pieces = delta.call_pieces;
    const auto last = std::find_if(pieces.begin(), pieces.end(),
                                   [](const ToolCallPiece& piece) { return piece.completes; });
    if (last != pieces.end()) pieces.erase(last + 1, pieces.end());
  }
  answer_.reasoning += delta.reasoning;
  answer_.content += delta.content;
  answer_.tool_calls.insert(answer_.tool_calls.end(), delta.tool_calls.begin(),
                            delta.tool_calls.end());
}

OutputDelta AnswerBuilder::push(const TokenEvent& event) {
  OutputDelta delta;
  if (over_) return delta;
  Usage& usage = answer_.usage;
  usage.cached_tokens = event.stats.cached_tokens;
  usage.drafted_tokens = event.stats.drafted_tokens;
  usage.accepted_tokens = event.stats.accepted_tokens;
  if (event.token >= 0) {
    if (usage.new_tokens++ == 0) usage.first_token_seconds = seconds();
    answer_.ids.push_back(event.token);
    const bool thought = stream_ && stream_->in_thought();
    if (thought) ++usage.thought_tokens;
    const auto& ending = options_.ending;
    if (options_.tokens && std::find(ending.begin(), ending.end(), event.token) == ending.end())
      answer_.tokens.push_back(
          {.id = event.token, .logprob = event.logprob, .top = event.top, .in_thought = thought});
    if (stream_) delta = stream_->push(event.token);
    add(delta);
  }
  if (event.finish != FinishReason::kNone) {
    error_ = event.error;
    answer_.end = end_of(event.finish);
    over_ = true;
  } else if ((stream_ && stream_->stopped()) ||
             (options_.one_call && !answer_.tool_calls.empty())) {
    cut_ = over_ = true;
  }
  if (stream_ && stream_->stopped()) {
    answer_.end = AnswerEnd::kStop;
    answer_.stop = stream_->stop();
  }
  if (over_) usage.total_seconds = seconds();
  return delta;
}

void AnswerBuilder::stop(AnswerEnd end) {
  if (over_) return;
  over_ = true;
  answer_.end = end;
  answer_.usage.total_seconds = seconds();
}

OutputDelta AnswerBuilder::finish() {
  if (!stream_ || std::exchange(finished_, true)) return {};
  OutputDelta delta = stream_->finish();
  add(delta);
  return delta;
}

}  // namespace hadal
