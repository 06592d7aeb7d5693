// HttpChannel: what an exchange and its connection share, and nothing of either: no socket, no
// coroutine.
//
// Owns the response's state (open, begun, complete), the bytes that wait for the client with their
// bound, and the one call of on_gone. The handler's side works through HttpExchange on any thread;
// the connection's side takes bytes on its own. It is severed from the connection before that ends,
// so an exchange may outlive its server. http_server.cc makes one a request.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "server/http_server.h"

namespace hadal::server {

/// The connection as a channel sees it. Both may be called on any thread, under the channel's lock:
/// they only leave a message.
class HttpWire {
 public:
  virtual ~HttpWire() = default;
  /// There is something to write, or the response is complete.
  virtual void wake() = 0;
  /// The client reads too slowly: reset the connection, and call leave().
  virtual void drop_slow() = 0;
};

class HttpChannel {
 public:
  struct Setup {
    HttpRequest request;
    bool http_1_1 = true;
    bool keep_alive = true;  ///< as the client asks
    int64_t stream_bytes = 0;
    /// The body of a 500 where the exchange is dropped without an answer.
    std::function<HttpRefusal(const HttpRequest&, int, std::string)> error_body;
    HttpWire* wire = nullptr;
    std::shared_ptr<void> lease;  ///< given back with the channel: what the body took of a bound
  };
  explicit HttpChannel(Setup setup) : setup_(std::move(setup)), wire_(setup_.wire) {}

  // The handler's side: see HttpExchange.
  [[nodiscard]] const HttpRequest& request() const { return setup_.request; }
  void respond(int status, std::string_view content_type, const HttpHeaders& headers,
               std::string_view body);
  void begin(int status, std::string_view content_type, const HttpHeaders& headers);
  bool send(std::string_view piece);
  void finish();
  void abort();
  void on_gone(std::function<void()> gone);
  [[nodiscard]] bool gone() const;
  [[nodiscard]] int64_t waiting_bytes() const;
  /// A 500 in the API's shape; if a stream has begun, abort().
  void fail();

  // The connection's side.
  /// Something for take() is there, or complete() holds.
  [[nodiscard]] bool ready() const;
  /// The bytes to write next, "" if there are none. They still wait until written() is called.
  std::string take();
  void written(size_t bytes);
  /// The response is complete, and all of it was taken.
  [[nodiscard]] bool complete() const;
  /// The transfer must be seen to be broken: close without its end.
  [[nodiscard]] bool broken() const;
  /// Whether the connection may serve another request after this response.
  [[nodiscard]] bool keep_alive() const;
  /// From now on responses ask the client to close.
  void close_after();
  /// The client has gone: nothing is sent any more. on_gone is called here, once, unless the
  /// response is complete. True if it was not.
  bool leave();
  /// The connection ends: it is not called any more once this returns.
  void sever();

 private:
  enum class State : uint8_t { kOpen, kBegun, kComplete };
  void complete_locked();
  void wake_locked();

  const Setup setup_;
  mutable std::mutex mutex_;
  HttpWire* wire_;  // null once severed; the rest, too, under the mutex
  State state_ = State::kOpen;
  bool gone_ = false;
  bool broken_ = false;
  bool woken_ = false;  // a wake() is on its way: pieces gather behind it
  bool body_ = true;    // false for HEAD and statuses without one: pieces are dropped
  bool chunks_ = false;
  bool close_ = false;
  std::string pending_;
  int64_t waiting_ = 0;  // bytes that were not written yet, head and chunks' frames included
  int64_t head_ = 0;     // of these, the head's
  std::function<void()> on_gone_;
};

/// The handler's handle on a channel.
std::shared_ptr<HttpExchange> make_exchange(std::shared_ptr<HttpChannel> channel);

}  // namespace hadal::server
