#include "engine/engine_thread.h"

#include <algorithm>
#include <exception>
#include <set>
#include <utility>

namespace hadal {
namespace {

using Clock = std::chrono::steady_clock;

/// The last event of a request that fails.
TokenEvent failure(Error error) {
  return {.finish = FinishReason::kError, .stats = {}, .error = std::move(error)};
}

/// Of one that a device failed.
TokenEvent by_the_machine(Error error) {
  TokenEvent event = failure(std::move(error));
  event.machine = true;
  return event;
}

}  // namespace

EngineThread::EngineThread(Engine& engine, const Limits& limits)
    : engine_(engine), limits_(limits), identity_(engine.runner().identity()) {
  snapshot_.identity = identity_;
  thread_ = std::thread([this] { loop(); });
}

EngineThread::~EngineThread() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  engine_.interrupt();
  work_.notify_one();
  thread_.join();
  engine_.runner().clear_interrupt();
}

Result<std::vector<EngineThread::Ticket>> EngineThread::submit_all(std::vector<Request> requests,
                                                                   int64_t n,
                                                                   PartListener listener) {
  int64_t tokens = 0;
  for (const Request& request : requests) tokens += static_cast<int64_t>(request.prompt.size());
  const int64_t answers = n * static_cast<int64_t>(requests.size());
  const auto shared = std::make_shared<const PartListener>(std::move(listener));
  std::vector<Ticket> tickets;
  {
    const std::scoped_lock lock(mutex_);
    if (stop_) return Error{.code = ErrorCode::kInterrupted, .message = "the engine stops"};
    const int64_t room =
        limits_.waiting_requests + std::max<int64_t>(limits_.places - snapshot_.running, 0);
    if (waiting_ > 0 &&
        (answers > room - waiting_ || tokens > limits_.waiting_tokens - waiting_tokens_))
      return Error{.code = ErrorCode::kBusy,
                   .message = std::to_string(waiting_) + " answers wait, with " +
                              std::to_string(waiting_tokens_) + " tokens; at most " +
                              std::to_string(limits_.waiting_requests) + " answers and " +
                              std::to_string(limits_.waiting_tokens) +
                              " tokens may: try again later"};
    waiting_ += answers;
    waiting_tokens_ += tokens;
    for (size_t i = 0; i < requests.size(); ++i) {
      tickets.push_back({next_ticket_++});
      submitted_.push_back({.ticket = tickets.back(),
                            .request = std::move(requests[i]),
                            .n = n,
                            .listener = std::make_shared<const Listener>(
                                [shared, i](int64_t sample, const TokenEvent& event) {
                                  (*shared)(i, sample, event);
                                })});
    }
    busy_ = true;
  }
  work_.notify_one();
  return tickets;
}

void EngineThread::cancel(Ticket ticket) {
  {
    const std::scoped_lock lock(mutex_);
    cancelled_.push_back(ticket);
    busy_ = true;
  }
  work_.notify_one();
}

Status EngineThread::between_steps(const std::function<Status(Engine& engine)>& work) {
  Visit visit{.work = work, .result = {}};
  std::unique_lock lock(mutex_);
  if (stop_) return Error{.code = ErrorCode::kInterrupted, .message = "the engine stops"};
  visits_.push_back(&visit);
  busy_ = true;
  work_.notify_one();
  visited_.wait(lock, [&] { return visit.done; });
  return std::move(visit.result);
}

void EngineThread::receive(const std::vector<Visit*>& visits) {
  for (Visit* visit : visits) {
    Status result;
    try {
      const std::string& lost = engine_.devices().lost;
      result = lost.empty() ? visit->work(engine_) : failed(lost);
    } catch (const std::exception& e) {
      result = failed(std::string("internal error: ") + e.what());
    }
    const std::scoped_lock lock(mutex_);
    visit->result = std::move(result);
    visit->done = true;
    visited_.notify_all();
  }
}

EngineThread::Snapshot EngineThread::snapshot() const {
  const std::scoped_lock lock(mutex_);
  return snapshot_;
}

void EngineThread::drain() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [&] { return !busy_; });
}

void EngineThread::loop() {
  const auto has_work = [&] {
    return stop_ || !submitted_.empty() || !cancelled_.empty() || !visits_.empty() ||
           !engine_.idle() || may_reopen();
  };
  while (true) {
    std::vector<Submitted> submitted;
    std::vector<Ticket> cancelled;
    std::vector<Visit*> visits;
    {
      std::unique_lock lock(mutex_);
      if (!has_work()) {
        busy_ = false;
        idle_.notify_all();
        if (next_reopening_)
          work_.wait_until(lock, *next_reopening_, has_work);
        else
          work_.wait(lock, has_work);
      }
      if (stop_) break;
      submitted.swap(submitted_);
      cancelled.swap(cancelled_);
      visits.swap(visits_);
    }
    receive(visits);
    const bool changed = !submitted.empty() || !cancelled.empty();
    try {
      take(std::move(submitted));
      drop(cancelled);
      if (changed) publish();  // a step may be long, and who submits meanwhile goes by this
      if (!engine_.devices().lost.empty())
        reopen();
      else if (!engine_.idle())
        step();
    } catch (const std::exception& e) {
      // A fault of ours, or no memory: whoever waits is told, and the process lives.
      end_all(failure(failed(std::string("internal error: ") + e.what())));
    }
    publish();
  }
  std::vector<Submitted> late;
  {
    const std::scoped_lock lock(mutex_);
    late.swap(submitted_);
    busy_ = false;
    for (Visit* visit : visits_) {
      visit->result = Error{.code = ErrorCode::kInterrupted, .message = "the engine stops"};
      visit->done = true;
    }
    visits_.clear();
    visited_.notify_all();
  }
  const TokenEvent stops =
      failure({.code = ErrorCode::kInterrupted, .message = "the engine stops"});
  end_all(stops);
  for (const Submitted& s : late)
    for (int64_t i = 0; i < s.n; ++i) (*s.listener)(i, stops);
  idle_.notify_all();
}

void EngineThread::take(std::vector<Submitted> submitted) {
  for (Submitted& s : submitted) {
    // Whatever is thrown here is this request's affair: those behind it are taken in.
    const auto ids = [&]() -> Result<std::vector<SeqId>> {
      try {
        return engine_.add_samples(s.request, s.n);
      } catch (const std::exception& e) {
        return failed(std::string("internal error: ") + e.what());
      }
    }();
    for (int64_t i = 0; i < s.n; ++i) {
      if (ids)
        live_[(*ids)[static_cast<size_t>(i)].value] = {s.ticket, i, s.listener};
      else
        (*s.listener)(i, failure(ids.error()));
    }
  }
}

void EngineThread::drop(const std::vector<Ticket>& cancelled) {
  for (const Ticket ticket : cancelled)
    for (auto it = live_.begin(); it != live_.end();) {
      if (it->second.ticket.value != ticket.value) {
        ++it;
        continue;
      }
      engine_.cancel({it->first});
      it = live_.erase(it);
    }
}

void EngineThread::step() {
  auto events = engine_.step();
  if (!events) {
    engine_.runner().clear_interrupt();
    if (events.error().code == ErrorCode::kInterrupted) return;
    const TokenEvent last = by_the_machine(std::move(events).error());
    // A step that fails where nothing runs would fail for ever.
    if (end_running(last) == 0 && engine_.devices().lost.empty()) end_all(last);
    return;
  }
  publish();  // who is told of an end finds it counted
  for (const TokenEvent& event : *events) tell(event);
}

bool EngineThread::may_reopen() const {
  return !engine_.devices().lost.empty() && (!next_reopening_ || Clock::now() >= *next_reopening_);
}

/// A device is lost.
void EngineThread::reopen() {
  const TokenEvent last = by_the_machine(failed(engine_.devices().lost));
  end_running(last);
  if (!may_reopen()) return end_all(last);
  const auto pause = std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(limits_.reopen_seconds));
  next_reopening_ = Clock::now() + pause;  // also where what follows throws
  publish();                               // the model may take minutes to load
  if (const Status opened = engine_.reopen(); !opened) {
    next_reopening_ = Clock::now() + pause;
    publish();
    end_all(by_the_machine(opened.error()));
    if (!engine_.runner().can_reopen() && limits_.on_end) limits_.on_end(opened.error());
    return;
  }
  next_reopening_.reset();
  identity_ = engine_.runner().identity();
}

void EngineThread::tell(const TokenEvent& event) {
  const auto live = live_.find(event.seq.value);
  if (live == live_.end()) return;
  (*live->second.listener)(live->second.sample, event);
  if (event.finish != FinishReason::kNone) live_.erase(live);
}

int64_t EngineThread::end(TokenEvent last, const std::function<bool(int64_t seq)>& chosen) {
  return static_cast<int64_t>(std::erase_if(live_, [&](const auto& item) {
    const auto& [id, live] = item;
    if (!chosen(id)) return false;
    engine_.cancel({id});
    last.seq = {id};
    (*live.listener)(live.sample, last);
    return true;
  }));
}

/// Those with rows on a device, and those that lost their place behind tokens that were told: the
/// rest of an answer is not computed by what may be another device.
int64_t EngineThread::end_running(const TokenEvent& last) {
  std::set<int64_t> ids;
  for (const auto& seq : engine_.scheduler().running()) ids.insert(seq->id.value);
  for (const auto& seq : engine_.scheduler().waiting())
    if (seq->generated() > 0) ids.insert(seq->id.value);
  return end(last, [&](int64_t seq) { return ids.contains(seq); });
}

void EngineThread::end_all(const TokenEvent& last) {
  (void)end(last, [](int64_t) { return true; });
}

void EngineThread::publish() {
  Snapshot now{.counts = engine_.counts(),
               .waiting = static_cast<int64_t>(engine_.scheduler().waiting().size()),
               .running = static_cast<int64_t>(engine_.scheduler().running().size()),
               .preemptions = engine_.scheduler().preemptions(),
               .devices = engine_.devices(),
               .identity = identity_};
  const PrefixTree& tree = engine_.blocks().tree();
  for (size_t g = 0; g < tree.pools().size(); ++g) {
    const auto capacity = static_cast<double>(tree.pools()[g].capacity());
    if (capacity > 0)
      now.cache_used =
          std::max(now.cache_used, 1 - static_cast<double>(tree.available(g)) / capacity);
  }
  int64_t waiting = now.waiting, tokens = 0;
  for (const auto& seq : engine_.scheduler().waiting()) tokens += seq->prompt_size();
  const std::scoped_lock lock(mutex_);
  for (const Submitted& s : submitted_) {
    waiting += s.n;
    tokens += static_cast<int64_t>(s.request.prompt.size());
  }
  waiting_ = waiting;
  waiting_tokens_ = tokens;
  snapshot_ = now;
}

}  // namespace hadal
