// HttpServer: HTTP/1.1 and 1.0 over TCP and TLS, for many slow and some hostile clients at once.
//
// Owns sockets, timers, buffers and the order of requests on a connection. It knows no API, no
// model and no key: a handler gets each request with its body as an exchange and answers it, whole
// or as a stream, on whatever thread, whenever it likes. Every wait has an end (head, body, write,
// idle), and everything that a client can make us keep has a bound (connections, head, body, bytes
// not yet read by it). Boost is seen by http_server.cc alone.
//
// A client that leaves, or reads too slowly, is told to the exchange at once, so that the work for
// it stops. Requests on one connection are answered in order, one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "server/http_request.h"

namespace hadal::server {

/// The answer to one request. Any thread may use it, also after the client has gone: then nothing
/// happens. An exchange whose last pointer is dropped before its response is complete answers 500,
/// or breaks the connection off if a stream had begun.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  [[nodiscard]] virtual const HttpRequest& request() const = 0;
  /// A whole response; ends the exchange. Adds content-length, x-request-id, date and the other
  /// fields that every response has.
  virtual void respond(int status, std::string content_type, HttpHeaders headers,
                       std::string body) = 0;
  /// A streamed one: its head, then pieces, then finish().
  virtual void begin(int status, std::string content_type, HttpHeaders headers) = 0;
  /// False: nobody reads any more, because the client has gone or the bounded buffer
  /// (HttpOptions::stream_bytes) is full, in which case the connection is reset. The caller stops
  /// its work. Returns at once. Empty pieces are allowed and send nothing; one that is larger than
  /// the buffer passes where nothing waits before it.
  virtual bool send(std::string piece) = 0;
  virtual void finish() = 0;
  /// Ends a streamed response that cannot be completed, so that the client sees a broken transfer
  /// and not a short answer.
  virtual void abort() = 0;
  /// Called once, on a thread of the server, when the client leaves before the response is complete
  /// or is dropped as too slow. Set before the handler returns, or called at once where the client
  /// has gone already. Never called after respond() or finish(). It must not block. What it
  /// captures is let go when the exchange ends; it should hold the exchange weakly, or an exchange
  /// that is forgotten stays open until its client leaves.
  virtual void on_gone(std::function<void()> gone) = 0;
  [[nodiscard]] virtual bool gone() const = 0;
  /// Bytes of a stream that wait for the client.
  [[nodiscard]] virtual int64_t waiting_bytes() const = 0;
};

/// Called on a thread of the server once the body is there; must not block for long. What it throws
/// becomes a 500.
using HttpHandler = std::function<void(std::shared_ptr<HttpExchange>)>;
/// Called with the head only, before the body is read (and before "100 Continue"): a refusal, no
/// key for example, that spares the body. nullopt: go on. Must not block.
using HttpGate = std::function<std::optional<HttpRefusal>(const HttpRequest& head)>;
/// The response to an error that the HTTP layer itself finds (malformed head, body too large, wait
/// too long, ...), in the shape of the API that the path belongs to. Of a head that could not be
/// read, `head` holds what could. The status is ours whatever it returns. Called on any thread.
using HttpErrorBody =
    std::function<HttpRefusal(const HttpRequest& head, int status, std::string message)>;

struct HttpOptions {
  std::string host = "127.0.0.1";  ///< a name or an address; "::" and "0.0.0.0" are all
  uint16_t port = 8080;            ///< 0: any free one
  std::string certificate_file;    ///< PEM, chain included; TLS 1.2 or later where both are given
  std::string key_file;            ///< PEM
  int64_t body_bytes = int64_t{32} << 20;
  int64_t bodies_bytes = int64_t{1} << 30;  ///< of all requests that are open; above it, 503
  int64_t header_bytes = int64_t{64} << 10;
  int64_t headers = 100;
  int64_t target_bytes = 8192;
  int64_t connections = 1024;
  int64_t stream_bytes = int64_t{256} << 10;  ///< of one stream, not yet taken by its client
  double header_seconds = 30;     ///< from a head's first byte to its last; also of the handshake
  double body_gap_seconds = 60;   ///< without a byte of the body
  double body_least_rate = 4096;  ///< bytes a second, behind the first body_gap_seconds
  double write_gap_seconds = 60;  ///< of a write that moves nothing
  double idle_seconds = 75;       ///< between requests; a new connection has header_seconds
  std::vector<std::string> trusted_proxies;  ///< addresses whose X-Forwarded-For is believed
  int threads = 1;
};

/// Since the server was opened, but for what is open now.
struct HttpCounts {
  int64_t connections_open = 0;
  int64_t exchanges_open = 0;  ///< requests whose response is not complete
  int64_t accepted = 0;
  int64_t turned_away = 0;   ///< connections above HttpOptions::connections
  int64_t requests = 0;      ///< that reached the handler
  int64_t refused = 0;       ///< by this layer or the gate
  int64_t timed_out = 0;     ///< heads, bodies and writes
  int64_t dropped_slow = 0;  ///< streams whose buffer was full, writes that moved nothing
  int64_t gone = 0;          ///< clients that left before their response was complete
  int64_t bytes_in = 0, bytes_out = 0;  ///< of HTTP, before TLS
};

class HttpServer {
 public:
  /// Binds, listens and starts the threads. Errors: kUsage (host that does not resolve, options out
  /// of range, certificate or key that cannot be used), kBusy (port in use), kFailed.
  static Result<std::unique_ptr<HttpServer>> open(HttpOptions options, HttpHandler handler,
                                                  HttpGate gate, HttpErrorBody error_body);
  /// Closes what is left, tells open exchanges that their client has gone, and ends the threads.
  /// Exchanges may outlive it. Never called on a thread of the server.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  [[nodiscard]] uint16_t port() const;
  /// Stops accepting; idle connections close now, busy ones after their response.
  void close_door();
  /// Waits until no exchange is open and all responses are written; false: they still are after
  /// `seconds`.
  bool wait_idle(double seconds);
  [[nodiscard]] HttpCounts counts() const;

  struct Impl;  ///< of http_server.cc
 private:
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal::server
