#include "api/core.h"

#include <algorithm>
#include <utility>

#include "api/border.h"

namespace hadal::api {
namespace {

uint32_t end_of(AnswerEnd end) {
  switch (end) {
    case AnswerEnd::kStop:
      return HADAL_END_STOP;
    case AnswerEnd::kLength:
      return HADAL_END_LENGTH;
    case AnswerEnd::kContext:
      return HADAL_END_CONTEXT;
    case AnswerEnd::kDeadline:
      return HADAL_END_DEADLINE;
    case AnswerEnd::kInterrupted:
      return HADAL_END_INTERRUPTED;
  }
  return HADAL_END_FAILED;
}

bool empty(const OutputDelta& delta) {
  return delta.reasoning.empty() && delta.content.empty() && delta.tool_calls.empty();
}

}  // namespace

bool Choice::has_news() const { return !empty(pending) || (ended && !end_told); }

std::vector<hadal_tool_call> views_of(const std::vector<ToolCall>& calls) {
  std::vector<hadal_tool_call> views;
  for (const ToolCall& call : calls)
    views.push_back({.size = sizeof(hadal_tool_call),
                     .reserved = 0,
                     .id = call.id.c_str(),
                     .name = call.name.c_str(),
                     .arguments = call.arguments.c_str()});
  return views;
}

hadal_event event_of(int32_t choice, const OutputDelta& delta,
                     const std::vector<hadal_tool_call>& calls) {
  hadal_event event{};
  event.size = sizeof event;
  event.choice = choice;
  event.text = delta.content.c_str();
  event.reasoning = delta.reasoning.c_str();
  event.tool_calls = calls.data();
  event.tool_call_count = calls.size();
  return event;
}

Core::Core(std::unique_ptr<Session> session, bool keeps_pages)
    : session_(std::move(session)),
      keeps_pages_(keeps_pages),
      engine_(std::make_unique<EngineThread>(session_->engine())),
      teller_([this] { tell_all(); }) {}

Core::~Core() { close(); }

void Core::close() {
  {
    const std::scoped_lock lock(mutex_);
    if (stop_) return;
    stop_ = true;
    for (const auto& answer : live_) answer->cancel_asked = true;
    attention_ = true;
  }
  arrived_.notify_one();
  teller_.join();
  engine_.reset();  // its listeners know this core
  if (keeps_pages_) session_->engine().save_pages();
  {
    const std::scoped_lock lock(mutex_);
    items_.clear();
  }
  session_.reset();
}

const char* Core::fingerprint() {
  std::string now = fingerprint_of(engine_->snapshot().identity);
  const std::scoped_lock lock(mutex_);
  return fingerprints_.insert(std::move(now)).first->c_str();
}

void Core::look() noexcept {
  {
    const std::scoped_lock lock(mutex_);
    attention_ = true;
  }
  arrived_.notify_one();
}

bool Core::adapter_in_use(const std::string& name) {
  const std::scoped_lock lock(mutex_);
  return std::any_of(live_.begin(), live_.end(),
                     [&](const auto& answer) { return answer->adapter == name; });
}

Result<std::shared_ptr<AnswerState>> Core::start(PreparedRequest prepared, std::string adapter,
                                                 const hadal_listener& listener) {
  auto answer = std::make_shared<AnswerState>();
  answer->core = shared_from_this();
  answer->listener = listener;
  answer->adapter = std::move(adapter);
  answer->builders = std::move(prepared.answers);
  answer->choices.resize(answer->builders.size());
  {
    const std::scoped_lock lock(mutex_);
    if (stop_) return Error{.code = ErrorCode::kInterrupted, .message = "the model is closed"};
    live_.insert(answer);
  }
  // Its events wait until the ticket is known.
  std::unique_lock waits(answer->mutex);
  auto ticket =
      engine_->submit(std::move(prepared.request), static_cast<int64_t>(answer->builders.size()),
                      [this, answer](int64_t sample, const TokenEvent& event) {
                        try {
                          const std::scoped_lock lock(mutex_);
                          items_.push_back({answer, sample, event});
                        } catch (const std::bad_alloc&) {
                          answer->lost = true;
                          look();
                          return;
                        }
                        arrived_.notify_one();
                      });
  if (!ticket) {
    waits.unlock();
    forget(answer);
    return std::move(ticket).error();
  }
  answer->ticket = *ticket;
  return answer;
}

void Core::forget(const std::shared_ptr<AnswerState>& answer) {
  const std::scoped_lock lock(mutex_);
  live_.erase(answer);
}

void Core::tell_all() {
  while (true) {
    std::vector<Item> items;
    bool attention = false;
    {
      std::unique_lock lock(mutex_);
      arrived_.wait(lock, [&] { return attention_ || !items_.empty(); });
      items.swap(items_);
      attention = std::exchange(attention_, false);
    }
    if (attention) heed_flags();
    for (const Item& item : items) handle(item);
    const std::scoped_lock lock(mutex_);
    if (stop_ && live_.empty()) return;
    if (stop_) attention_ = true;
  }
}

void Core::heed_flags() {
  std::vector<std::shared_ptr<AnswerState>> flagged;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& answer : live_)
      if (answer->cancel_asked || answer->lost) flagged.push_back(answer);
  }
  for (const auto& answer : flagged) {
    stop(*answer, answer->lost ? std::optional(memory_error("no memory left for its events"))
                               : std::nullopt);
    forget(answer);
  }
}

/// Ends what goes on of an answer: as cancelled, or by the error.
void Core::stop(AnswerState& answer, const std::optional<Error>& error) {
  std::unique_lock lock(answer.mutex);
  engine_->cancel(answer.ticket);
  for (size_t i = 0; i < answer.choices.size(); ++i) {
    if (answer.choices[i].ended) continue;
    answer.builders[i].stop(AnswerEnd::kInterrupted);
    OutputDelta delta;
    end_choice(answer, i, delta);
    answer.choices[i].error = error;
    if (error) answer.choices[i].end = HADAL_END_FAILED;
    keep(answer, i, delta);
    lock.unlock();
    tell(answer, static_cast<int64_t>(i), delta);
    lock.lock();
  }
}

void Core::handle(const Item& item) {
  AnswerState& answer = *item.answer;
  const auto sample = static_cast<size_t>(item.sample);
  OutputDelta delta;
  bool over = false;
  {
    const std::scoped_lock lock(answer.mutex);
    if (answer.choices[sample].ended) return;
    AnswerBuilder& builder = answer.builders[sample];
    delta = builder.push(item.event);
    if (builder.over()) {
      const bool cut = builder.cut();
      end_choice(answer, sample, delta);
      // The engine knows a prompt's answers as one: it goes on until all are over.
      if (answer.over && cut) engine_->cancel(answer.ticket);
    }
    over = answer.over;
    if (empty(delta) && !answer.choices[sample].ended) return;
    keep(answer, sample, delta);
  }
  tell(answer, item.sample, delta);
  if (over) forget(item.answer);
}

/// Keeps what a choice came to, and adds what was held back of it to `delta`. Under answer.mutex.
void Core::end_choice(AnswerState& answer, size_t sample, OutputDelta& delta) {
  AnswerBuilder& builder = answer.builders[sample];
  Choice& choice = answer.choices[sample];
  delta.append(builder.finish());
  choice.error = builder.error();
  choice.answer = builder.take();
  choice.end = choice.error ? uint32_t{HADAL_END_FAILED} : end_of(choice.answer.end);
  choice.calls = views_of(choice.answer.tool_calls);
  for (const AnswerToken& token : choice.answer.tokens) {
    std::vector<hadal_logprob> top;
    for (const TokenLogprob& rival : token.top) top.push_back({rival.token, rival.logprob});
    choice.top.push_back(std::move(top));
    choice.tokens.push_back({.id = token.id,
                             .logprob = token.logprob,
                             .top = choice.top.back().data(),
                             .top_count = choice.top.back().size(),
                             .in_thought = token.in_thought ? 1U : 0U,
                             .reserved = 0});
  }
  choice.ended = true;
  answer.over = std::all_of(answer.choices.begin(), answer.choices.end(),
                            [](const Choice& c) { return c.ended; });
  if (answer.over) answer.builders.clear();  // they refer to the model
}

/// Leaves a delta for hadal_answer_next, where that takes the events. Under answer.mutex, with what
/// else is known of the choice: an end never shows without the text before it.
void Core::keep(AnswerState& answer, size_t sample, const OutputDelta& delta) {
  if (answer.listener.on_event) return;
  answer.choices[sample].pending.append(delta);
  answer.changed.notify_all();
}

/// Tells whoever listens of a delta, and of a choice's end.
void Core::tell(AnswerState& answer, int64_t sample, const OutputDelta& delta) {
  const bool direct = answer.listener.on_event != nullptr;
  hadal_event event{};
  const std::vector<hadal_tool_call> calls = views_of(delta.tool_calls);
  if (direct) {
    const std::scoped_lock lock(answer.mutex);
    Choice& choice = answer.choices[static_cast<size_t>(sample)];
    event = event_of(static_cast<int32_t>(sample), delta, calls);
    choice.end_told = choice.ended;
    event.end = choice.ended ? choice.end : uint32_t{HADAL_END_NONE};
    event.over = std::all_of(answer.choices.begin(), answer.choices.end(),
                             [](const Choice& c) { return c.end_told; })
                     ? 1
                     : 0;
  }
  call(answer, event);
  {
    const std::scoped_lock lock(answer.mutex);
    answer.told = direct ? event.over != 0 : answer.over;
  }
  answer.changed.notify_all();
}

void Core::call(AnswerState& answer, const hadal_event& event) {
  const hadal_listener& listener = answer.listener;
  const std::scoped_lock lock(answer.calling);
  if (answer.detached) return;
  if (listener.on_event) {
    if (listener.on_event(listener.context, &event) == 0) return;
    answer.cancel_asked = true;
    look();
  } else if (listener.on_ready) {
    listener.on_ready(listener.context);
  }
}

}  // namespace hadal::api
