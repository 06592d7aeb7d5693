#include "server/call_runner.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <exception>

namespace hadal::server {
namespace {

void add(UsageCounts& usage, const Usage& answer, bool prompt) {
  if (prompt) {
    usage.prompt_tokens += answer.prompt_tokens;
    usage.cached_tokens += answer.cached_tokens;
  }
  usage.completion_tokens += answer.new_tokens;
  usage.reasoning_tokens += answer.thought_tokens;
}

void add(UsageCounts& usage, const UsageCounts& more) {
  usage.prompt_tokens += more.prompt_tokens;
  usage.cached_tokens += more.cached_tokens;
  usage.completion_tokens += more.completion_tokens;
  usage.reasoning_tokens += more.reasoning_tokens;
}

}  // namespace

std::vector<ScoredToken> scored_tokens(const Tokenizer& tokenizer,
                                       std::span<const AnswerToken> tokens) {
  std::vector<ScoredToken> scored;
  for (const AnswerToken& token : tokens) {
    ScoredToken s{.bytes = tokenizer.token_bytes(token.id), .logprob = token.logprob};
    for (const TokenLogprob& rival : token.top)
      s.top.push_back({.bytes = tokenizer.token_bytes(rival.token), .logprob = rival.logprob});
    scored.push_back(std::move(s));
  }
  return scored;
}

CallRunner::~CallRunner() {
  for (auto& [tag, running] : running_)
    for (const Part& part : running.parts)
      if (part.ticket) engine_.cancel(*part.ticket);
  engine_.drain();  // its listeners know this runner
}

Status CallRunner::prepare(Running& running) {
  if (auto* chat = std::get_if<ChatCall>(&running.call)) {
    Part part;
    HADAL_TRY(part.prepared, session_.prepare_chat(chat->chat, chat->options));
    running.parts.push_back(std::move(part));
    return {};
  }
  auto& call = std::get<CompletionCall>(running.call);
  if (!session_.tokenizer()) return usage_error("prompt: the model has no tokenizer");
  for (size_t i = 0; i < call.prompts.size(); ++i) {
    HADAL_TRY(std::vector<TokenId> ids, completion_ids(call, i, *session_.tokenizer()));
    Part part;
    HADAL_TRY(part.prepared, session_.prepare_ids(std::move(ids), call.options));
    running.parts.push_back(std::move(part));
  }
  return {};
}

Status CallRunner::submit(int64_t tag, Running& running) {
  for (size_t p = 0; p < running.parts.size(); ++p) {
    Part& part = running.parts[p];
    const auto n = static_cast<int64_t>(part.prepared.answers.size());
    running.left += n;
    HADAL_TRY(part.ticket, engine_.submit(std::move(part.prepared.request), n,
                                          [this, tag, p](int64_t sample, const TokenEvent& event) {
                                            {
                                              const std::scoped_lock lock(mutex_);
                                              events_.push_back({tag, p, sample, event});
                                            }
                                            arrived_.notify_one();
                                          }));
  }
  return {};
}

void CallRunner::start(int64_t tag, Call call, std::string id) {
  Running running{.call = std::move(call)};
  running.head = {.id = std::move(id),
                  .created = static_cast<int64_t>(std::time(nullptr)),
                  .model = model_,
                  .fingerprint = session_.fingerprint()};
  std::visit(
      [&](auto& c) {
        const auto& adapters = session_.engine().runner().adapters();
        const bool named = std::any_of(adapters.begin(), adapters.end(), [&](const auto& adapter) {
          return !adapter.empty() && adapter.name == c.model;
        });
        if (!named) return;
        c.options.adapter = running.head.model = c.model;
      },
      running.call);
  Status ready;
  try {
    ready = prepare(running);
  } catch (const std::exception& e) {  // a tokenizer that is worked too hard, no memory
    ready = failed(e.what());
  }
  Running& placed = running_.emplace(tag, std::move(running)).first->second;
  if (ready) ready = submit(tag, placed);
  if (ready) return;
  placed.error = ready.error();
  finish(tag, placed);
}

/// Takes a call out of those that run, and its result in.
void CallRunner::finish(int64_t tag, Running& running) {
  for (const Part& part : running.parts)
    if (part.ticket && running.error) engine_.cancel(*part.ticket);
  done_.push_back(result_of(tag, running));
  running_.erase(tag);
}

void CallRunner::handle(Event& event) {
  const auto found = running_.find(event.tag);
  if (found == running_.end()) return;  // it failed, or was cut
  Running& running = found->second;
  Part& part = running.parts[event.part];
  AnswerBuilder& answer = part.prepared.answers[static_cast<size_t>(event.sample)];
  if (answer.over()) return;
  (void)answer.push(event.event);
  if (!answer.over()) return;
  (void)answer.finish();
  if (answer.error()) running.error = answer.error();
  if (--running.left > 0 && !running.error) {
    // The engine knows a prompt's answers as one: it goes on until all are over.
    const bool all = std::all_of(part.prepared.answers.begin(), part.prepared.answers.end(),
                                 [](const AnswerBuilder& a) { return a.over(); });
    if (all && answer.cut()) engine_.cancel(*part.ticket);
    return;
  }
  if (answer.cut()) engine_.cancel(*part.ticket);
  finish(event.tag, running);
}

CallRunner::Done CallRunner::result_of(int64_t tag, Running& running) {
  if (running.error) {
    const ApiError error = api_error(*running.error);
    return {.tag = tag, .status = error.status, .body = error_body(error)};
  }
  UsageCounts usage;
  std::string body = std::holds_alternative<ChatCall>(running.call)
                         ? chat_body(running, usage)
                         : completion_body(running, usage);
  add(usage_, usage);
  return {.tag = tag, .status = 200, .body = std::move(body)};
}

std::string CallRunner::chat_body(Running& running, UsageCounts& usage) const {
  std::vector<ChatChoice> choices;
  for (AnswerBuilder& builder : running.parts[0].prepared.answers) {
    Answer answer = builder.take();
    add(usage, answer.usage, choices.empty());
    ChatChoice choice{.index = static_cast<int64_t>(choices.size()),
                      .reasoning = std::move(answer.reasoning),
                      .content = std::move(answer.content),
                      .tool_calls = std::move(answer.tool_calls),
                      .end = answer.end};
    const auto content = std::stable_partition(answer.tokens.begin(), answer.tokens.end(),
                                               [](const AnswerToken& t) { return t.in_thought; });
    const std::span<const AnswerToken> tokens(answer.tokens);
    const auto thought = static_cast<size_t>(content - answer.tokens.begin());
    choice.reasoning_tokens = scored_tokens(*session_.tokenizer(), tokens.first(thought));
    choice.content_tokens = scored_tokens(*session_.tokenizer(), tokens.subspan(thought));
    choices.push_back(std::move(choice));
  }
  return chat_reply(running.head, std::get<ChatCall>(running.call), choices, usage);
}

std::string CallRunner::completion_body(Running& running, UsageCounts& usage) const {
  const auto& call = std::get<CompletionCall>(running.call);
  const Tokenizer& tokenizer = *session_.tokenizer();
  std::vector<CompletionChoice> choices;
  for (Part& part : running.parts) {
    bool first = true;
    for (AnswerBuilder& builder : part.prepared.answers) {
      Answer answer = builder.take();
      add(usage, answer.usage, std::exchange(first, false));
      CompletionChoice choice{.index = static_cast<int64_t>(choices.size()),
                              .text = std::move(answer.content),
                              .end = answer.end};
      if (call.echo) {
        choice.text.insert(0, tokenizer.decode(part.prepared.prompt, true));
        if (part.prepared.prompt_scores)
          choice.tokens = scored_tokens(tokenizer, *part.prepared.prompt_scores);
        if (!choice.tokens.empty()) choice.tokens[0].logprob.reset();
      }
      auto scored = scored_tokens(tokenizer, answer.tokens);
      std::move(scored.begin(), scored.end(), std::back_inserter(choice.tokens));
      choices.push_back(std::move(choice));
    }
  }
  return completion_reply(running.head, call, choices, usage);
}

std::optional<CallRunner::Done> CallRunner::next(const std::function<bool()>& stop) {
  constexpr auto kGlance = std::chrono::milliseconds(100);
  while (done_.empty()) {
    if (running_.empty() || (stop && stop())) return std::nullopt;
    std::vector<Event> events;
    {
      std::unique_lock lock(mutex_);
      arrived_.wait_for(lock, kGlance, [&] { return !events_.empty(); });
      events.swap(events_);
    }
    for (Event& event : events) handle(event);
  }
  Done done = std::move(done_.front());
  done_.erase(done_.begin());
  return done;
}

}  // namespace hadal::server
