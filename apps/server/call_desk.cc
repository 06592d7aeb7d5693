#include "server/call_desk.h"

#include <algorithm>
#include <utility>

#include "server/api_error.h"

namespace hadal::server {
namespace {

double seconds_between(std::chrono::steady_clock::time_point from,
                       std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

CallDesk::CallDesk(TokenSource& source, Options options)
    : source_(source),
      options_(std::move(options)),
      inbox_(std::make_shared<Inbox>()),
      thread_([this] { loop(); }) {}

void CallDesk::stop() {
  {
    const std::scoped_lock lock(inbox_->mutex);
    inbox_->stop = true;
  }
  inbox_->arrived.notify_one();
  if (thread_.joinable()) thread_.join();
  keeper_.stop();
}

void CallDesk::take(DeskCall call) {
  {
    const std::scoped_lock lock(inbox_->mutex);
    ++inbox_->open;
    inbox_->calls.push_back(std::move(call));
  }
  inbox_->arrived.notify_one();
}

int64_t CallDesk::open() const {
  const std::scoped_lock lock(inbox_->mutex);
  return inbox_->open;
}

void CallDesk::loop() {
  const auto glance = std::chrono::duration<double>(std::min(1.0, options_.ping_seconds / 4));
  auto last_ping = Clock::now();
  for (;;) {
    std::vector<DeskCall> calls;
    std::vector<Event> events;
    std::vector<int64_t> gone;
    bool stop = false;
    {
      std::unique_lock lock(inbox_->mutex);
      inbox_->arrived.wait_for(lock, glance, [&] {
        return inbox_->stop || !inbox_->calls.empty() || !inbox_->events.empty() ||
               !inbox_->gone.empty();
      });
      calls.swap(inbox_->calls);
      events.swap(inbox_->events);
      gone.swap(inbox_->gone);
      stop = inbox_->stop;
    }
    for (const int64_t id : gone) guarded(id, [&](Live&) { leave(id); });
    take_in(std::move(calls));
    tell(events);
    if (stop) break;
    if (Clock::now() - last_ping > glance) {
      ping();
      last_ping = Clock::now();
    }
  }
  while (!live_.empty()) {
    const int64_t id = live_.begin()->first;
    guarded(id, [&](Live& live) {
      fail(live, {.code = ErrorCode::kInterrupted, .message = "the server stops"});
    });
    live_.erase(id);
  }
}

/// Ends a call whose own work has thrown: a fault of ours, or no memory.
void CallDesk::break_off(Live& live, const std::string& why) noexcept {
  try {
    fail(live, failed("internal error: " + why));
  } catch (const std::exception&) {
    live.call.exchange->abort();
  }
  try {
    count(live, {.status = 500, .end = {}, .error = {}, .usage = {}});
  } catch (const std::exception&) {
    // It is counted; what could not be told is not told.
  }
  over(live);
}

template <typename Work>
void CallDesk::guarded(int64_t id, const Work& work) {
  const auto live = live_.find(id);
  if (live == live_.end()) return;  // it is over
  try {
    work(live->second);
  } catch (const std::exception& e) {
    const auto left = live_.find(id);
    if (left == live_.end()) return;
    break_off(left->second, e.what());
    live_.erase(left);
  }
}

void CallDesk::take_in(std::vector<DeskCall> calls) {
  for (DeskCall& call : calls) {
    const int64_t id = next_id_++;
    live_.emplace(id, Live{.call = std::move(call), .last_sent = Clock::now()});
    guarded(id, [&](Live&) { begin(id); });
  }
}

void CallDesk::tell(const std::vector<Event>& events) {
  std::vector<int64_t> touched;
  for (const Event& event : events)
    guarded(event.id, [&](Live& live) {
      live.call.call->push(event.from, event.event);
      if (!std::exchange(live.touched, true)) touched.push_back(event.id);
    });
  for (const int64_t id : touched) guarded(id, [&](Live& live) { flush(id, live); });
}

void CallDesk::begin(int64_t id) {
  Live& live = live_.at(id);
  if (live.call.exchange->gone()) return leave(id);
  const std::weak_ptr<Inbox> weak = inbox_;
  live.call.exchange->on_gone([weak, id] {
    const auto inbox = weak.lock();
    if (!inbox) return;
    {
      const std::scoped_lock lock(inbox->mutex);
      inbox->gone.push_back(id);
    }
    inbox->arrived.notify_one();
  });
  const Status submitted = live.call.call->submit(
      source_, [inbox = inbox_, id](RunningCall::Origin from, const TokenEvent& event) {
        bool first = false;
        {
          const std::scoped_lock lock(inbox->mutex);
          first = inbox->events.empty();
          inbox->events.push_back({id, from, event});
        }
        if (first) inbox->arrived.notify_one();
      });
  if (submitted) {
    if (live.call.slot) live.call.slot->charge(live.call.call->prompt_tokens());
    return;
  }
  fail(live, submitted.error());
  live_.erase(id);
}

/// What is new of a call goes to its client.
void CallDesk::flush(int64_t id, Live& live) {
  live.touched = false;
  if (!std::exchange(live.heard, true) && options_.fingerprint)
    live.call.reply->computed_by(options_.fingerprint());
  RunningCall& call = *live.call.call;
  if (call.error()) {
    fail(live, *call.error());
    live_.erase(id);
    return;
  }
  std::vector<RunningCall::News> news = call.take_news();
  measure(live);
  if (!call.over()) {
    if (live.call.stream) send(live, streamed(live, news));
    return;
  }
  if (!live.call.slow_end) {
    end(live, news);
    live_.erase(id);
    return;
  }
  auto last = std::make_shared<Live>(std::move(live));
  live_.erase(id);
  const auto task = [this, last, news = std::move(news)] {
    try {
      end(*last, news);
    } catch (const std::exception& e) {
      break_off(*last, e.what());
    }
  };
  if (!keeper_.add(task)) task();
}

/// The last of a call: all of it was pushed.
void CallDesk::end(Live& live, const std::vector<RunningCall::News>& news) {
  RunningCall& call = *live.call.call;
  const UsageCounts usage = call.usage();
  std::string last =
      live.call.stream ? streamed(live, news) : live.call.reply->whole(call.take_choices(), usage);
  count(live, {.end = std::string(name_of(call.end_of(0).end)), .error = {}, .usage = usage});
  if (live.call.stream) {
    send(live, std::move(last));
    live.call.exchange->finish();
  } else {
    live.call.exchange->respond(200, "application/json", live.call.headers, std::move(last));
  }
  over(live);
}

void CallDesk::measure(Live& live) {
  const int64_t tokens = live.call.call->usage().completion_tokens;
  if (tokens == live.tokens) return;
  const auto now = Clock::now();
  if (!live.first_token) live.first_token = now;
  if (live.last_token && live.call.on_tokens && live.call.call->answers() == 1)
    live.call.on_tokens(seconds_between(*live.last_token, now), tokens - live.tokens);
  live.last_token = now;
  live.tokens = tokens;
}

std::string CallDesk::streamed(Live& live, const std::vector<RunningCall::News>& news) {
  RunningCall& call = *live.call.call;
  Reply& reply = *live.call.reply;
  std::string bytes;
  if (!std::exchange(live.begun, true)) bytes = reply.begin(call.usage());
  size_t ends = 0;
  for (const RunningCall::News& piece : news) ends += piece.over ? 1 : 0;
  for (const RunningCall::News& piece : news) {
    bytes += reply.push(piece.choice, piece.delta);
    if (!piece.over) continue;
    const UsageCounts usage = call.usage();
    const bool last = call.over() && --ends == 0;
    bytes += reply.end(call.end_of(piece.choice), last ? &usage : nullptr);
    if (last) bytes += reply.finish(usage);
  }
  return bytes;
}

void CallDesk::send(Live& live, std::string bytes) {
  if (!std::exchange(live.head_sent, true))
    live.call.exchange->begin(200, std::string(live.call.reply->stream_type()), live.call.headers);
  if (bytes.empty()) return;
  live.last_sent = Clock::now();
  (void)live.call.exchange->send(std::move(bytes));  // a client that is gone is told by on_gone
}

void CallDesk::fail(Live& live, const Error& error) {
  const ApiError api =
      live.call.call->failed_by_machine() ? unavailable(error.message) : api_error(error);
  HttpExchange& exchange = *live.call.exchange;
  count(live, {.status = api.status,
               .end = api.code,
               .error = api.status < 500 ? api.code : error.message});
  if (live.head_sent) {
    exchange.send(live.call.reply->fail(api));
    exchange.finish();
  } else {
    HttpHeaders headers = live.call.headers;
    if ((api.status == 429 || api.status == 503) && options_.retry_after)
      headers.emplace_back("retry-after", std::to_string(options_.retry_after()));
    exchange.respond(api.status, "application/json", std::move(headers), live.call.error_body(api));
  }
  over(live);
}

/// Once for each call, before its last byte is sent: who has the answer finds it counted.
void CallDesk::count(Live& live, CallRecord record) {
  if (std::exchange(live.counted, true)) return;
  const auto now = Clock::now();
  record.seconds = seconds_between(live.call.arrived, now);
  if (live.first_token)
    record.first_token_seconds = seconds_between(live.call.arrived, *live.first_token);
  if (record.usage.prompt_tokens == 0) record.usage = live.call.call->usage();
  if (live.call.slot) live.call.slot->charge(record.usage.completion_tokens);
  if (live.call.on_over) live.call.on_over(record);
}

/// Once for each call, behind its last byte, whatever happens to it.
void CallDesk::over(Live& live) {
  if (std::exchange(live.over, true)) return;
  const std::scoped_lock lock(inbox_->mutex);
  --inbox_->open;
}

void CallDesk::ping() {
  const auto now = Clock::now();
  std::vector<int64_t> quiet;
  for (const auto& [id, live] : live_)
    if (live.call.stream && seconds_between(live.last_sent, now) >= options_.ping_seconds)
      quiet.push_back(id);
  for (const int64_t id : quiet)
    guarded(id, [&](Live& live) {
      live.last_sent = now;
      send(live, live.call.reply->ping());
    });
}

void CallDesk::leave(int64_t id) {
  const auto live = live_.find(id);
  if (live == live_.end()) return;
  live->second.call.call->cancel();
  count(live->second, {.status = 499, .end = "gone"});
  over(live->second);
  live_.erase(live);
}

}  // namespace hadal::server
