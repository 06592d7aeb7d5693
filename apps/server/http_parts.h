// Small parts of the HTTP server that need no socket: counters, ids, the bound of all bodies, and
// the checks of what the caller gives. http_server.cc uses them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/result.h"
#include "server/http_server.h"

namespace hadal::server {

/// What counts() copies.
struct HttpCounters {
  std::atomic<int64_t> connections_open = 0, exchanges_open = 0, accepted = 0, turned_away = 0,
                       requests = 0, refused = 0, timed_out = 0, dropped_slow = 0, gone = 0,
                       bytes_in = 0, bytes_out = 0;
};

/// What the bodies of open requests take of HttpOptions::bodies_bytes; given back by the
/// destructor.
class BodyLease {
 public:
  BodyLease(std::shared_ptr<std::atomic<int64_t>> taken, int64_t most)
      : taken_(std::move(taken)), most_(most) {}
  ~BodyLease() { taken_->fetch_sub(mine_); }
  BodyLease(const BodyLease&) = delete;
  BodyLease& operator=(const BodyLease&) = delete;
  bool grow_to(int64_t bytes) {
    if (bytes <= mine_) return true;
    const int64_t more = bytes - mine_;
    if (taken_->fetch_add(more) + more > most_) return taken_->fetch_sub(more), false;
    mine_ = bytes;
    return true;
  }

 private:
  std::shared_ptr<std::atomic<int64_t>> taken_;
  int64_t most_;
  int64_t mine_ = 0;
};

/// Ids of which nobody meets the same twice, without a call of the system for each.
class IdMaker {
 public:
  IdMaker();
  std::string next();

 private:
  uint64_t seed_[2] = {};
  std::atomic<uint64_t> count_ = 0;
};

/// The caller's function, or a plain text where it throws or is none. Never throws but for memory.
HttpErrorBody careful(HttpErrorBody inner);
/// Errors: kUsage, names the option that is out of range.
Status check_http_options(const HttpOptions& options);

}  // namespace hadal::server
