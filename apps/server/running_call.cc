#include "server/running_call.h"

#include <algorithm>
#include <exception>
#include <span>
#include <utility>

#include "server/openai_completion.h"

namespace hadal::server {

namespace {

/// Tokens of an answer as the responses show them.
std::vector<ScoredToken> scored_tokens(const Tokenizer& tokenizer,
                                       std::span<const AnswerToken> tokens) {
  std::vector<ScoredToken> scored;
  scored.reserve(tokens.size());
  for (const AnswerToken& token : tokens) {
    ScoredToken s{.bytes = tokenizer.token_bytes(token.id), .logprob = token.logprob};
    for (const TokenLogprob& rival : token.top)
      s.top.push_back({.bytes = tokenizer.token_bytes(rival.token), .logprob = rival.logprob});
    scored.push_back(std::move(s));
  }
  return scored;
}

}  // namespace

Result<std::unique_ptr<RunningCall>> RunningCall::prepare(const Session& session, Call call) {
  std::unique_ptr<RunningCall> running(new RunningCall(session, std::move(call)));
  try {
    HADAL_TRY(running->make_ready());
  } catch (const std::exception& e) {  // a tokenizer that is worked too hard, no memory
    return failed(e.what());
  }
  return running;
}

Status RunningCall::make_ready() {
  ApiCall& shared = common(call_);
  const auto& adapters = session_.engine().runner().adapters();
  if (std::any_of(adapters.begin(), adapters.end(), [&](const NamedAdapter& adapter) {
        return !adapter.empty() && adapter.name == shared.model;
      }))
    shared.options.adapter = shared.model;
  samples_ = shared.options.n;
  const auto add = [this](PreparedRequest prepared) {
    const size_t n = prepared.answers.size();
    parts_.push_back({.prepared = std::move(prepared),
                      .scored = std::vector<size_t>(n),
                      .begun = std::vector<bool>(n),
                      .ticket = {}});
    left_ += static_cast<int64_t>(n);
  };
  if (auto* chat = std::get_if<ChatCall>(&call_)) {
    HADAL_TRY(PreparedRequest prepared,
              session_.prepare_chat(std::move(chat->chat), chat->options));
    add(std::move(prepared));
    return {};
  }
  const auto& call = std::get<CompletionCall>(call_);
  if (!session_.tokenizer()) return usage_error("prompt: the model has no tokenizer");
  for (size_t i = 0; i < call.prompts.size(); ++i) {
    HADAL_TRY(session_.check_text(call.prompts[i].text.size()));
    HADAL_TRY(std::vector<TokenId> ids, completion_ids(call, i, *session_.tokenizer()));
    HADAL_TRY(PreparedRequest prepared, session_.prepare_ids(std::move(ids), call.options));
    add(std::move(prepared));
  }
  return {};
}

RunningCall::~RunningCall() { cancel(); }

void RunningCall::cancel() {
  for (Part& part : parts_)
    if (part.ticket) source_->cancel(*std::exchange(part.ticket, std::nullopt));
}

int64_t RunningCall::prompt_tokens() const {
  int64_t tokens = 0;
  for (const Part& part : parts_) tokens += static_cast<int64_t>(part.prepared.prompt.size());
  return tokens;
}

Status RunningCall::submit(TokenSource& source, Sink sink) {
  std::vector<Request> requests;
  for (Part& part : parts_) requests.push_back(std::move(part.prepared.request));
  auto tickets = source.submit_all(
      std::move(requests), samples_,
      [sink = std::move(sink)](size_t part, int64_t sample, const TokenEvent& event) {
        sink({part, sample}, event);
      });
  if (!tickets) {
    error_ = tickets.error();
    return std::move(tickets).error();
  }
  source_ = &source;
  for (size_t p = 0; p < parts_.size(); ++p) parts_[p].ticket = (*tickets)[p];
  return {};
}

std::string RunningCall::echoed(const Part& part) const {
  const auto* call = std::get_if<CompletionCall>(&call_);
  return call && call->echo ? session_.tokenizer()->decode(part.prepared.prompt, true)
                            : std::string();
}

/// Text with the tokens that were not told yet; of an answer with echo the prompt comes first.
ChoiceDelta RunningCall::delta_of(Part& part, size_t sample, OutputDelta text) const {
  ChoiceDelta delta{.text = std::move(text)};
  const Tokenizer* tokenizer = session_.tokenizer();
  if (!part.begun[sample]) {
    part.begun[sample] = true;
    delta.text.content.insert(0, echoed(part));
    if (part.prepared.prompt_scores) {
      delta.content_tokens = scored_tokens(*tokenizer, *part.prepared.prompt_scores);
      if (!delta.content_tokens.empty()) delta.content_tokens[0].logprob.reset();
    }
  }
  const auto& tokens = part.prepared.answers[sample].answer().tokens;
  for (size_t& told = part.scored[sample]; told < tokens.size(); ++told) {
    auto scored = scored_tokens(*tokenizer, std::span(tokens).subspan(told, 1));
    (tokens[told].in_thought ? delta.reasoning_tokens : delta.content_tokens)
        .push_back(std::move(scored[0]));
  }
  return delta;
}

void RunningCall::push(Origin from, const TokenEvent& event) {
  if (over()) return;
  Part& part = parts_[from.part];
  const auto sample = static_cast<size_t>(from.sample);
  AnswerBuilder& answer = part.prepared.answers[sample];
  if (answer.over()) return;
  OutputDelta text = answer.push(event);
  if (answer.over()) text.append(answer.finish());
  if (answer.error()) {
    error_ = answer.error();
    machine_ = event.machine;
    news_.clear();
    cancel();
    return;
  }
  const int64_t choice = static_cast<int64_t>(from.part) * samples_ + from.sample;
  news_.push_back({choice, delta_of(part, sample, std::move(text)), answer.over()});
  if (!answer.over()) return;
  --left_;
  // The source knows a prompt's answers as one: it goes on until all are over.
  const bool all = std::all_of(part.prepared.answers.begin(), part.prepared.answers.end(),
                               [](const AnswerBuilder& a) { return a.over(); });
  if (!all) return;
  if (const auto ticket = std::exchange(part.ticket, std::nullopt)) source_->cancel(*ticket);
}

std::vector<RunningCall::News> RunningCall::take_news() { return std::exchange(news_, {}); }

UsageCounts RunningCall::usage() const {
  UsageCounts usage;
  for (const Part& part : parts_) {
    // A prompt of which nothing was heard was not read.
    bool first = std::find(part.begun.begin(), part.begun.end(), true) != part.begun.end();
    for (const AnswerBuilder& builder : part.prepared.answers) {
      const Usage& answer = builder.answer().usage;
      if (std::exchange(first, false)) {
        usage.prompt_tokens += answer.prompt_tokens;
        usage.cached_tokens += answer.cached_tokens;
      }
      usage.completion_tokens += answer.new_tokens;
      usage.reasoning_tokens += answer.thought_tokens;
    }
  }
  return usage;
}

Choice RunningCall::end_of(int64_t choice) const {
  const Part& part = parts_[static_cast<size_t>(choice / samples_)];
  const Answer& answer = part.prepared.answers[static_cast<size_t>(choice % samples_)].answer();
  return {.index = choice,
          .reasoning = answer.reasoning,
          .content = echoed(part) + answer.content,
          .tool_calls = answer.tool_calls,
          .end = answer.end,
          .stop = answer.stop};
}

std::vector<Choice> RunningCall::take_choices() {
  std::vector<Choice> choices;
  for (Part& part : parts_) {
    part.begun.assign(part.begun.size(), false);
    part.scored.assign(part.scored.size(), 0);
    for (size_t sample = 0; sample < part.prepared.answers.size(); ++sample) {
      Choice choice = end_of(static_cast<int64_t>(choices.size()));
      ChoiceDelta all = delta_of(part, sample, {});
      choice.reasoning_tokens = std::move(all.reasoning_tokens);
      choice.content_tokens = std::move(all.content_tokens);
      choices.push_back(std::move(choice));
    }
  }
  return choices;
}

}  // namespace hadal::server
