// RunningCall: one call on its way through a source of tokens: its prompts and grammars made ready,
// its answers as they grow, its usage.
//
// Knows neither HTTP nor the form of a response. prepare() may take seconds (a long prompt, a
// grammar) and runs where nobody waits for it; everything else is quick and used by one thread at a
// time. Events come from the source's thread through a sink of the caller's, who brings them to his
// own thread and hands them to push().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "engine/token_source.h"
#include "server/call.h"
#include "server/reply.h"
#include "session/session.h"

namespace hadal::server {

class RunningCall {
 public:
  /// Which answer an event belongs to.
  struct Origin {
    size_t part = 0;     ///< the prompt's number
    int64_t sample = 0;  ///< of the answers to it
  };
  using Sink = std::function<void(Origin from, const TokenEvent& event)>;
  /// What became certain of one answer; `over`: nothing of it follows.
  struct News {
    int64_t choice = 0;
    ChoiceDelta delta = {};
    bool over = false;
  };

  /// Where the call's model is the name of one of the session's adapters, that is used. The session
  /// must outlive the call. Errors: of Session::prepare_chat and prepare_ids; kFailed for what a
  /// library throws.
  static Result<std::unique_ptr<RunningCall>> prepare(const Session& session, Call call);
  /// Cancels what still runs.
  ~RunningCall();
  RunningCall(const RunningCall&) = delete;
  RunningCall& operator=(const RunningCall&) = delete;

  [[nodiscard]] int64_t answers() const { return samples_ * static_cast<int64_t>(parts_.size()); }
  /// Of all prompts.
  [[nodiscard]] int64_t prompt_tokens() const;

  /// The source must outlive the call. `sink` may be called before this returns, and for a while
  /// after the call is gone. Errors: kBusy, kInterrupted; nothing runs then.
  Status submit(TokenSource& source, Sink sink);
  /// Takes an event in; events of answers that are over change nothing.
  void push(Origin from, const TokenEvent& event);
  /// What came since the last time, in order. Nothing after an error.
  std::vector<News> take_news();
  [[nodiscard]] bool over() const { return error_ || left_ == 0; }
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }
  /// The error is the machine's (TokenEvent::machine), not the request's.
  [[nodiscard]] bool failed_by_machine() const { return machine_; }
  /// So far; each prompt counts once, from its first event on. Before take_choices().
  [[nodiscard]] UsageCounts usage() const;
  /// All answers; once, when it is over without an error.
  std::vector<Choice> take_choices();
  /// One of them as far as it is, without its tokens' scores.
  [[nodiscard]] Choice end_of(int64_t choice) const;
  void cancel();

 private:
  /// One prompt: its request and the answers to it.
  struct Part {
    PreparedRequest prepared;
    std::vector<size_t> scored;  ///< tokens of each answer that were told, and ...
    std::vector<bool> begun;     ///< whether its first event was
    std::optional<TokenSource::Ticket> ticket;
  };
  RunningCall(const Session& session, Call call) : session_(session), call_(std::move(call)) {}
  Status make_ready();
  [[nodiscard]] ChoiceDelta delta_of(Part& part, size_t sample, OutputDelta text) const;
  [[nodiscard]] std::string echoed(const Part& part) const;

  const Session& session_;
  Call call_;
  std::vector<Part> parts_;
  int64_t samples_ = 1;  ///< answers to each prompt
  int64_t left_ = 0;     ///< answers that are not over
  std::vector<News> news_;
  std::optional<Error> error_;
  bool machine_ = false;
  TokenSource* source_ = nullptr;
};

}  // namespace hadal::server
