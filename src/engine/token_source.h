// TokenSource: where answers come from, as those who serve them see it: requests in, tokens out, by
// any thread. The engine's thread is one (engine_thread.h); tests put a script in its place.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "engine/request.h"

namespace hadal {

class TokenSource {
 public:
  /// One event of sample `sample` of a request. The last one of each sample has a finish. Called by
  /// the source's thread: it must not wait, nor throw.
  using Listener = std::function<void(int64_t sample, const TokenEvent& event)>;
  /// A request as its submitter knows it.
  struct Ticket {
    int64_t value = -1;
  };
  virtual ~TokenSource() = default;

  /// The same of several requests: `request` is the number of one among them.
  using PartListener = std::function<void(size_t request, int64_t sample, const TokenEvent& event)>;

  /// Takes n answers to each of several prompts in, all or none. Errors: kBusy, kInterrupted.
  /// What is wrong with a request itself is told to the listener, as the end of each of its
  /// samples.
  virtual Result<std::vector<Ticket>> submit_all(std::vector<Request> requests, int64_t n,
                                                 PartListener listener) = 0;
  /// The same of one prompt.
  Result<Ticket> submit(Request request, int64_t n, Listener listener) {
    std::vector<Request> one;
    one.push_back(std::move(request));
    auto tickets = submit_all(
        std::move(one), n,
        [listener = std::move(listener)](size_t, int64_t sample, const TokenEvent& event) {
          listener(sample, event);
        });
    if (!tickets) return std::move(tickets).error();
    return tickets->front();
  }
  /// Ends a request within one step; its listener hears nothing more once this is done.
  virtual void cancel(Ticket ticket) = 0;
};

}  // namespace hadal
