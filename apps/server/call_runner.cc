#include "server/call_runner.h"

#include <chrono>
#include <ctime>

#include "server/api_error.h"
#include "server/openai_chat.h"
#include "server/openai_completion.h"

namespace hadal::server {

CallRunner::~CallRunner() {
  running_.clear();
  engine_.drain();  // its listeners know this runner
}

Status CallRunner::begin(int64_t tag, Call call, std::string id) {
  ReplyHead head{
      .id = std::move(id), .created = static_cast<int64_t>(std::time(nullptr)), .model = model_};
  const std::string& named = common(call).model;
  if (!named.empty() && session_.engine().runner().adapter_number(named)) head.model = named;
  Running running;
  if (const auto* chat = std::get_if<ChatCall>(&call))
    running.reply = make_chat_reply(std::move(head), *chat);
  else
    running.reply = make_completion_reply(std::move(head), std::get<CompletionCall>(call));
  HADAL_TRY(running.call, RunningCall::prepare(session_, std::move(call)));
  HADAL_TRY(
      running.call->submit(engine_, [this, tag](RunningCall::Origin from, const TokenEvent& event) {
        {
          const std::scoped_lock lock(mutex_);
          events_.push_back({tag, from, event});
        }
        arrived_.notify_one();
      }));
  running_.emplace(tag, std::move(running));
  return {};
}

void CallRunner::start(int64_t tag, Call call, std::string id) {
  if (const Status begun = begin(tag, std::move(call), std::move(id)); !begun)
    fail(tag, begun.error());
}

void CallRunner::fail(int64_t tag, const Error& error) {
  const ApiError api = api_error(error);
  done_.push_back({.tag = tag, .status = api.status, .body = error_body(api)});
}

void CallRunner::handle(const Event& event) {
  const auto found = running_.find(event.tag);
  if (found == running_.end()) return;  // it is over
  if (!std::exchange(found->second.heard, true))
    found->second.reply->computed_by(fingerprint_of(engine_.snapshot().identity));
  RunningCall& call = *found->second.call;
  call.push(event.from, event.event);
  (void)call.take_news();  // the whole is asked for at the end
  if (!call.over()) return;
  if (call.failed_by_machine()) {
    done_.push_back({.tag = event.tag, .status = 503, .machine = call.error()->message});
  } else if (call.error()) {
    fail(event.tag, *call.error());
  } else {
    const UsageCounts usage = call.usage();
    usage_ += usage;
    done_.push_back(
        {.tag = event.tag, .body = found->second.reply->whole(call.take_choices(), usage)});
  }
  running_.erase(found);
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
    for (const Event& event : events) handle(event);
  }
  Done done = std::move(done_.front());
  done_.erase(done_.begin());
  return done;
}

}  // namespace hadal::server
