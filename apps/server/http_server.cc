#include "server/http_server.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <mutex>
#include <set>
#include <string_view>
#include <thread>
#include <utility>

#include "server/http_exchange.h"
#include "server/http_parts.h"
#include "server/http_response.h"

namespace hadal::server {
namespace {

namespace asio = boost::asio;
using asio::awaitable;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr size_t kReadBytes = 16384;
/// What a client may send ahead while its request is answered, and what is read of a body at once.
constexpr size_t kAheadBytes = 65536;
/// How long a client that sent more than we read may take to see our refusal.
constexpr double kLingerSeconds = 5;
/// Connections beyond the bound that are told so; more of them are just closed.
constexpr int64_t kTurnedAwayAtOnce = 64;

Clock::duration seconds_of(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

auto into(error_code& error) { return asio::redirect_error(asio::use_awaitable, error); }

asio::ip::address plain_address(asio::ip::address address) {
  if (address.is_v6() && address.to_v6().is_v4_mapped())
    return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
  return address;
}

/// "1.2.3.4", "1.2.3.4:5", "::1", "[::1]" and "[::1]:5" as X-Forwarded-For has them.
std::optional<asio::ip::address> forwarded_address(std::string_view text) {
  while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
  while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
  if (text.starts_with('['))
    text = text.substr(1, text.find(']') - 1);
  else if (std::ranges::count(text, ':') == 1)
    text = text.substr(0, text.find(':'));
  error_code error;
  const auto address = asio::ip::make_address(text, error);
  if (error) return std::nullopt;
  return plain_address(address);
}

}  // namespace

class HttpConnection;

/// What acceptor and connections share. stop() waits for the last connection.
struct HttpServer::Impl {
  HttpOptions options;
  HttpHandler handler;
  HttpGate gate;
  HttpErrorBody error_body;  // one that never throws
  std::set<asio::ip::address> proxies;
  std::optional<asio::ssl::context> tls;

  HttpCounters counts;
  IdMaker ids;
  std::shared_ptr<std::atomic<int64_t>> bodies = std::make_shared<std::atomic<int64_t>>(0);
  std::atomic<bool> closing = false;   // the door is closed
  std::atomic<bool> stopping = false;  // and everything ends
  std::mutex mutex;
  std::condition_variable idle;
  std::set<HttpConnection*> connections;  // under the mutex

  asio::io_context io;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work;
  std::optional<tcp::acceptor> acceptor;  // on door's strand
  std::optional<asio::steady_timer> retry;
  uint16_t port = 0;
  std::vector<std::thread> threads;

  Status bind();
  Status load_certificate();
  Status read_proxies();
  void start();
  void stop();
  void close_door();
  void exchange_ended();
  awaitable<void> accept_loop();
  void add(tcp::socket socket);
};

/// One client. Everything here runs on the connection's strand but for wake() and drop_slow().
///
/// One coroutine reads into in_ as long as there is room, also while a response is under way, so
/// that a client that leaves is seen at once. Another serves: it waits for bytes, for the exchange
/// or for a deadline on one timer, and writes. A timer of its own ends writes that move nothing.
class HttpConnection final : public HttpWire, public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(HttpServer::Impl& server, tcp::socket socket, bool turned_away);
  ~HttpConnection() override = default;
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  void start();
  /// On any thread: ends the connection (now), or looks again whether it should.
  void end(bool now);
  void wake() override;
  void drop_slow() override;

 private:
  enum class Next : uint8_t { kRequest, kClose };
  enum class Goodbye : uint8_t { kNone, kBegun, kSaid };
  /// A request that is being read.
  struct Incoming {
    HttpRequestReader reader;
    std::shared_ptr<BodyLease> lease;
  };

  awaitable<void> run();
  awaitable<void> serve();
  awaitable<void> read_ahead();
  awaitable<bool> shake_hands();
  awaitable<Next> one_request(bool first);
  awaitable<bool> read_head(Incoming& incoming, bool first);
  awaitable<bool> read_body(Incoming& incoming);
  awaitable<Next> answer(Incoming& incoming);
  awaitable<void> write_response(HttpChannel& channel);
  awaitable<void> refuse(const HttpHead& head, HttpRefusal refusal, bool keep_alive);
  awaitable<void> refuse_fault(HttpRequestReader& reader, int status, std::string message);
  awaitable<bool> write(std::string_view bytes, HttpChannel* channel = nullptr);
  awaitable<bool> wait(std::function<bool()> until, Clock::time_point deadline);
  awaitable<void> linger();
  awaitable<void> say_goodbye();

  awaitable<size_t> read_some(asio::mutable_buffer buffer, error_code& error);
  awaitable<size_t> write_some(asio::const_buffer buffer, error_code& error);

  void complete_head(HttpRequest& head);
  [[nodiscard]] std::string peer_of(const HttpRequest& head) const;
  void feed(HttpRequestReader& reader);
  void client_left();
  void close(bool reset);
  void arm(double seconds);
  void disarm() { operation_deadline_ = Clock::time_point::max(); }
  void schedule_guard(Clock::time_point at);
  tcp::socket& socket() { return tls_ ? tls_->next_layer() : socket_; }

  HttpServer::Impl& server_;
  tcp::socket socket_;
  std::optional<asio::ssl::stream<tcp::socket>> tls_;
  asio::any_io_executor strand_;
  asio::ip::address address_;
  std::string peer_;
  bool turned_away_;

  asio::steady_timer wake_, room_, guard_;
  Clock::time_point operation_deadline_ = Clock::time_point::max();
  Clock::time_point guard_at_ = Clock::time_point::max();
  std::string in_;             // read, and not yet taken by a request
  bool discard_ = false;       // what comes is of no interest any more
  bool end_of_input_ = false;  // the client sends no more, or has gone
  bool closed_ = false;        // the socket is
  Goodbye goodbye_ = Goodbye::kNone;
  std::shared_ptr<HttpChannel> channel_;  // of the exchange that is open
};

// --- connection: life

HttpConnection::HttpConnection(HttpServer::Impl& server, tcp::socket socket, bool turned_away)
    : server_(server),
      socket_(std::move(socket)),
      strand_(socket_.get_executor()),
      turned_away_(turned_away),
      wake_(strand_),
      room_(strand_),
      guard_(strand_) {
  error_code ignored;
  const tcp::endpoint remote = socket_.remote_endpoint(ignored);
  address_ = plain_address(remote.address());
  peer_ = (address_.is_v6() ? "[" + address_.to_string() + "]" : address_.to_string()) + ":" +
          std::to_string(remote.port());
  socket_.set_option(tcp::no_delay(true), ignored);
  socket_.set_option(asio::socket_base::keep_alive(true), ignored);
  // The system's own buffer is part of what waits for a client, and would grow to megabytes.
  const int64_t room = std::clamp<int64_t>(server.options.stream_bytes, 4096, 1 << 20);
  socket_.set_option(asio::socket_base::send_buffer_size(static_cast<int>(room)), ignored);
  if (server.tls) tls_.emplace(std::move(socket_), *server.tls);
}

void HttpConnection::start() {
  asio::co_spawn(
      strand_, [self = shared_from_this()]() -> awaitable<void> { co_await self->run(); },
      asio::detached);
}

void HttpConnection::end(bool now) {
  asio::post(strand_, [self = shared_from_this(), now] {
    if (now) self->close(true);
    self->wake_.cancel();
  });
}

void HttpConnection::wake() {
  asio::post(strand_, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->wake_.cancel();
  });
}

void HttpConnection::drop_slow() {
  asio::post(strand_, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self || self->closed_) return;
    ++self->server_.counts.dropped_slow;
    self->close(true);
  });
}

awaitable<void> HttpConnection::run() {
  const auto self = shared_from_this();
  try {
    co_await serve();
  } catch (const std::exception&) {
    // no memory, or a system without sockets: this client is lost, the others are not
  }
  close(false);
  const std::lock_guard lock(server_.mutex);
  server_.connections.erase(this);
  if (!turned_away_) --server_.counts.connections_open;
}

awaitable<void> HttpConnection::serve() {
  if (tls_) {
    const bool shaken = co_await shake_hands();
    if (!shaken) co_return;
  }
  asio::co_spawn(
      strand_, [self = shared_from_this()]() -> awaitable<void> { co_await self->read_ahead(); },
      asio::detached);
  if (turned_away_) {
    HttpHead head;
    complete_head(head.request);
    HttpRefusal refusal = server_.error_body(
        head.request, 503,
        "There are too many connections: try again in a second, or close idle ones.");
    refusal.headers.emplace_back("retry-after", "1");
    co_await refuse(head, std::move(refusal), false);
    co_return;
  }
  for (bool first = true; !closed_; first = false) {
    const Next next = co_await one_request(first);
    if (next == Next::kClose) break;
  }
  co_await say_goodbye();
}

awaitable<bool> HttpConnection::shake_hands() {
  error_code error;
  arm(server_.options.header_seconds);
  co_await tls_->async_handshake(asio::ssl::stream_base::server, into(error));
  disarm();
  co_return !error && !closed_;
}

/// The end of TLS, so that the client can tell it from a cut line. The client need not answer.
awaitable<void> HttpConnection::say_goodbye() {
  if (closed_ || !tls_ || end_of_input_ || goodbye_ != Goodbye::kNone) co_return;
  goodbye_ = Goodbye::kBegun;
  tls_->async_shutdown([self = shared_from_this()](error_code) {
    self->goodbye_ = Goodbye::kSaid;
    self->wake_.cancel();
  });
  co_await wait([this] { return end_of_input_ || goodbye_ == Goodbye::kSaid; },
                Clock::now() + std::chrono::seconds(1));
}

/// The client has gone, or is given up: whoever works for it learns so.
void HttpConnection::client_left() {
  end_of_input_ = true;
  if (channel_) {
    try {
      if (channel_->leave()) ++server_.counts.gone;
    } catch (...) {
      // a callback of the handler's: its fault must not end the server
    }
  }
  wake_.cancel();
}

void HttpConnection::close(bool reset) {
  if (closed_) return;
  closed_ = true;
  error_code ignored;
  if (reset) socket().set_option(asio::socket_base::linger(true, 0), ignored);
  socket().close(ignored);
  room_.cancel();
  guard_.cancel();
  client_left();
}

// --- connection: time

awaitable<bool> HttpConnection::wait(std::function<bool()> until, Clock::time_point deadline) {
  while (!until()) {
    if (closed_ || Clock::now() >= deadline) co_return false;
    error_code ignored;
    wake_.expires_at(deadline);
    co_await wake_.async_wait(into(ignored));
  }
  co_return !closed_;
}

/// The operation that begins now is given up, and the connection with it, after so many seconds.
void HttpConnection::arm(double seconds) {
  operation_deadline_ = Clock::now() + seconds_of(seconds);
  if (guard_at_ > operation_deadline_) schedule_guard(operation_deadline_);
}

/// The timer is left running when an operation ends, and looks at the deadline only when it fires:
/// most writes then cost no timer.
void HttpConnection::schedule_guard(Clock::time_point at) {
  guard_at_ = at;
  guard_.expires_at(at);
  guard_.async_wait([weak = weak_from_this()](error_code error) {
    const auto self = weak.lock();
    if (error || !self || self->closed_) return;
    self->guard_at_ = Clock::time_point::max();
    if (self->operation_deadline_ == Clock::time_point::max()) return;
    if (self->operation_deadline_ > Clock::now())
      return self->schedule_guard(self->operation_deadline_);
    ++self->server_.counts.timed_out;
    if (self->channel_) ++self->server_.counts.dropped_slow;
    self->close(true);
  });
}

// --- connection: bytes

awaitable<size_t> HttpConnection::read_some(asio::mutable_buffer buffer, error_code& error) {
  if (tls_) co_return co_await tls_->async_read_some(buffer, into(error));
  co_return co_await socket_.async_read_some(buffer, into(error));
}

awaitable<size_t> HttpConnection::write_some(asio::const_buffer buffer, error_code& error) {
  if (tls_) co_return co_await tls_->async_write_some(buffer, into(error));
  co_return co_await socket_.async_write_some(buffer, into(error));
}

awaitable<void> HttpConnection::read_ahead() {
  std::vector<char> buffer(kReadBytes);
  while (!closed_) {
    if (in_.size() >= kAheadBytes) {
      // Whether the client has gone cannot be read, as its bytes are in the way; the system knows,
      // unless they fill its buffer, too.
      error_code ignored;
      room_.expires_after(std::chrono::seconds(1));
      co_await room_.async_wait(into(ignored));
      if (closed_) break;
      pollfd probe = {.fd = socket().native_handle(), .events = POLLRDHUP, .revents = 0};
      if (channel_ && ::poll(&probe, 1, 0) > 0) break;
      continue;
    }
    error_code error;
    const size_t count = co_await read_some(asio::buffer(buffer), error);
    if (error) break;
    server_.counts.bytes_in += static_cast<int64_t>(count);
    if (!discard_) in_.append(buffer.data(), count);
    wake_.cancel();
  }
  if (channel_)
    close(false);  // the response would go to nobody
  else
    client_left();
}

awaitable<bool> HttpConnection::write(std::string_view bytes, HttpChannel* channel) {
  while (!bytes.empty() && !closed_) {
    error_code error;
    arm(server_.options.write_gap_seconds);
    const size_t count = co_await write_some(asio::buffer(bytes.data(), bytes.size()), error);
    disarm();
    if (error) {
      close(true);
      break;
    }
    server_.counts.bytes_out += static_cast<int64_t>(count);
    if (channel != nullptr) channel->written(count);
    bytes.remove_prefix(count);
  }
  co_return !closed_;
}

/// Gives what was read to the request.
void HttpConnection::feed(HttpRequestReader& reader) {
  const size_t taken = reader.feed(in_);
  in_.erase(0, taken);
  if (in_.capacity() > kAheadBytes * 2 && in_.empty()) in_ = {};
  room_.cancel();
}

/// After a refusal in the middle of a request: reads what still comes, for a while, because closing
/// over unread bytes resets the connection and takes the refusal from the client.
awaitable<void> HttpConnection::linger() {
  if (closed_) co_return;
  discard_ = true;
  in_ = {};
  room_.cancel();
  co_await say_goodbye();
  if (closed_) co_return;
  error_code ignored;
  socket().shutdown(tcp::socket::shutdown_send, ignored);
  co_await wait([this] { return end_of_input_ || server_.stopping; },
                Clock::now() + seconds_of(kLingerSeconds));
}

// --- connection: requests

std::string HttpConnection::peer_of(const HttpRequest& head) const {
  if (!server_.proxies.contains(address_)) return peer_;
  std::string all;
  for (const auto& [name, value] : head.headers)
    if (name == "x-forwarded-for") all += (all.empty() ? "" : ",") + value;
  // From the right: what stands left of the first address that is not ours may be invented.
  std::optional<asio::ip::address> found;
  for (std::string_view rest = all; !rest.empty();) {
    const size_t comma = rest.rfind(',');
    const size_t begin = comma == std::string_view::npos ? 0 : comma + 1;
    const auto address = forwarded_address(rest.substr(begin));
    if (!address) break;
    found = address;
    if (!server_.proxies.contains(*address)) break;
    rest = rest.substr(0, comma == std::string_view::npos ? 0 : comma);
  }
  return found ? found->to_string() : peer_;
}

void HttpConnection::complete_head(HttpRequest& head) {
  head.peer = peer_of(head);
  head.tls = tls_.has_value();
  if (head.id.empty()) head.id = server_.ids.next();
}

awaitable<void> HttpConnection::refuse(const HttpHead& head, HttpRefusal refusal, bool keep_alive) {
  ++server_.counts.refused;
  keep_alive = keep_alive && !server_.closing;
  std::string bytes = http_head({.status = refusal.status,
                                 .content_type = refusal.content_type,
                                 .id = head.request.id,
                                 .http_1_1 = head.http_1_1,
                                 .keep_alive = keep_alive,
                                 .length = static_cast<int64_t>(refusal.body.size())},
                                refusal.headers);
  if (head.request.method != "HEAD") bytes += refusal.body;
  const bool written = co_await write(bytes);
  if (written && !keep_alive) co_await linger();
}

awaitable<void> HttpConnection::refuse_fault(HttpRequestReader& reader, int status,
                                             std::string message) {
  HttpHead& head = reader.head();
  head.request.body = {};
  complete_head(head.request);
  HttpRefusal refusal = server_.error_body(head.request, status, std::move(message));
  if (status == 503) refusal.headers.emplace_back("retry-after", "1");
  co_await refuse(head, std::move(refusal), false);
}

/// True: a head is there. False: the connection ends, and the client has been told why.
awaitable<bool> HttpConnection::read_head(Incoming& incoming, bool first) {
  HttpRequestReader& reader = incoming.reader;
  const HttpOptions& options = server_.options;
  auto deadline = Clock::now() + seconds_of(first ? options.header_seconds : options.idle_seconds);
  bool began = false;
  while (reader.state() == HttpRequestReader::State::kHead) {
    const bool there = co_await wait(
        [this, &began] { return !in_.empty() || end_of_input_ || (server_.closing && !began); },
        deadline);
    if (closed_) co_return false;
    // Bytes that drip in do not prolong a head.
    const bool late = began && Clock::now() >= deadline;
    if (there && !in_.empty() && !late) {
      feed(reader);
      if (!began && reader.began()) {
        began = true;
        deadline = Clock::now() + seconds_of(options.header_seconds);
      }
      continue;
    }
    if (late) {
      ++server_.counts.timed_out;
      co_await refuse_fault(reader, 408, "The head of the request took too long to arrive.");
    }
    co_return false;
  }
  co_return true;
}

awaitable<bool> HttpConnection::read_body(Incoming& incoming) {
  HttpRequestReader& reader = incoming.reader;
  if (reader.head().expect_continue && in_.empty()) {
    const bool written = co_await write("HTTP/1.1 100 Continue\r\n\r\n");
    if (!written) co_return false;
  }
  const auto begin = Clock::now();
  while (reader.state() == HttpRequestReader::State::kBody) {
    // No pause may be too long, nor the whole: bytes that drip would hold their room for hours.
    const double whole =
        server_.options.body_gap_seconds +
        static_cast<double>(reader.head().request.body.size()) / server_.options.body_least_rate;
    const auto deadline = std::min(Clock::now() + seconds_of(server_.options.body_gap_seconds),
                                   begin + seconds_of(whole));
    const bool there = co_await wait([this] { return !in_.empty() || end_of_input_; }, deadline);
    if (closed_) co_return false;
    if (!there) {
      ++server_.counts.timed_out;
      co_await refuse_fault(reader, 408, "The body of the request took too long to arrive.");
      co_return false;
    }
    if (in_.empty()) co_return false;  // the client left in the middle
    feed(reader);
    if (!incoming.lease->grow_to(static_cast<int64_t>(reader.head().request.body.capacity()))) {
      co_await refuse_fault(reader, 503,
                            "Too many bytes are held for other requests: try again later.");
      co_return false;
    }
  }
  co_return true;
}

awaitable<HttpConnection::Next> HttpConnection::one_request(bool first) {
  const HttpOptions& options = server_.options;
  Incoming incoming = {.reader = HttpRequestReader({.header_bytes = options.header_bytes,
                                                    .headers = options.headers,
                                                    .target_bytes = options.target_bytes},
                                                   options.body_bytes),
                       .lease = std::make_shared<BodyLease>(server_.bodies, options.bodies_bytes)};
  HttpRequestReader& reader = incoming.reader;
  const bool head = co_await read_head(incoming, first);
  if (!head) co_return Next::kClose;
  if (reader.state() != HttpRequestReader::State::kFailed) {
    complete_head(reader.head().request);
    std::optional<HttpRefusal> refusal;
    try {
      if (server_.gate) refusal = server_.gate(reader.head().request);
    } catch (...) {
      refusal = server_.error_body(reader.head().request, 500, "The server failed to answer.");
    }
    if (refusal) {
      const bool keep =
          reader.state() == HttpRequestReader::State::kDone && reader.head().keep_alive;
      co_await refuse(reader.head(), *std::move(refusal), keep);
      co_return keep ? Next::kRequest : Next::kClose;
    }
    const bool body = co_await read_body(incoming);
    if (!body && reader.state() != HttpRequestReader::State::kFailed) co_return Next::kClose;
  }
  if (reader.state() == HttpRequestReader::State::kFailed) {
    const HttpFault fault = *reader.fault();
    co_await refuse_fault(reader, fault.status, fault.message);
    co_return Next::kClose;
  }
  const Next next = co_await answer(incoming);
  co_return next;
}

awaitable<HttpConnection::Next> HttpConnection::answer(Incoming& incoming) {
  if (end_of_input_) {  // nobody waits for the answer
    ++server_.counts.gone;
    co_return Next::kClose;
  }
  HttpHead& head = incoming.reader.head();
  HttpServer::Impl* server = &server_;
  HttpChannel::Setup setup;
  setup.http_1_1 = head.http_1_1;
  setup.keep_alive = head.keep_alive;
  setup.stream_bytes = server_.options.stream_bytes;
  setup.error_body = server_.error_body;
  setup.wire = this;
  setup.lease = std::move(incoming.lease);
  setup.request = std::move(head.request);
  const auto channel = std::make_shared<HttpChannel>(std::move(setup));
  if (server->closing) channel->close_after();
  ++server->counts.requests;
  ++server->counts.exchanges_open;
  channel_ = channel;
  {
    std::shared_ptr<HttpExchange> exchange = make_exchange(channel);
    try {
      server->handler(exchange);
    } catch (...) {
      channel->fail();
    }
  }
  co_await write_response(*channel);
  channel_.reset();
  channel->sever();
  server->exchange_ended();
  const bool again = !closed_ && channel->keep_alive() && !server->closing;
  if (channel->broken()) close(!head.http_1_1);
  co_return again ? Next::kRequest : Next::kClose;
}

awaitable<void> HttpConnection::write_response(HttpChannel& channel) {
  while (true) {
    const bool ready =
        co_await wait([&channel] { return channel.ready(); }, Clock::time_point::max());
    if (!ready) co_return;
    const std::string bytes = channel.take();
    const bool written = co_await write(bytes, &channel);
    if (!written || channel.complete()) co_return;
  }
}

// --- the server

namespace {

Error bind_error(const std::string& where, const error_code& error) {
  if (error == asio::error::address_in_use)
    return {
        .code = ErrorCode::kBusy,
        .message = where + " is in use by another program: choose another port, or end that one"};
  if (error == asio::error::access_denied)
    return usage_error(where + " may not be listened on by this user: choose a port above 1023");
  if (error == boost::system::errc::address_not_available)
    return usage_error(where + " is no address of this machine: name one of its own, or 0.0.0.0");
  return failed(where + " cannot be listened on: " + error.message());
}

/// Only what is spoken here, so that a client that prefers HTTP/2 does not begin it.
int select_protocol(SSL*, const unsigned char** out, unsigned char* out_size,
                    const unsigned char* in, unsigned int in_size, void*) {
  static constexpr unsigned char kProtocols[] = "\x08http/1.1\x08http/1.0";
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_size, kProtocols, sizeof kProtocols - 1, in, in_size) !=
      OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

Status HttpServer::Impl::load_certificate() {
  const std::string& certificate = options.certificate_file;
  const std::string& key = options.key_file;
  if (certificate.empty() && key.empty()) return {};
  if (certificate.empty() || key.empty())
    return usage_error("TLS needs both a certificate and its key: " +
                       std::string(certificate.empty() ? "the certificate" : "the key") +
                       " is missing");
  tls.emplace(asio::ssl::context::tls_server);
  SSL_CTX* context = tls->native_handle();
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(
      context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_alpn_select_cb(context, select_protocol, nullptr);
  error_code error;
  // A key with a password is refused; OpenSSL would ask for it at the terminal.
  tls->set_password_callback([](size_t, asio::ssl::context::password_purpose) { return ""; },
                             error);
  tls->use_certificate_chain_file(certificate, error);
  if (error)
    return usage_error(certificate +
                       " is not a certificate in PEM form that can be read: " + error.message());
  tls->use_private_key_file(key, asio::ssl::context::pem, error);
  if (error)
    return usage_error(key + " is not the private key of " + certificate +
                       " in PEM form, without a password: " + error.message());
  if (SSL_CTX_check_private_key(context) != 1)
    return usage_error(key + " is not the private key of " + certificate);
  return {};
}

Status HttpServer::Impl::read_proxies() {
  for (const std::string& text : options.trusted_proxies) {
    error_code error;
    const auto address = asio::ip::make_address(text, error);
    if (error)
      return usage_error("\"" + text +
                         "\" is not the address of a proxy: an IPv4 or IPv6 address " +
                         "is expected, without a port");
    proxies.insert(plain_address(address));
  }
  return {};
}

Status HttpServer::Impl::bind() {
  std::string host = options.host;
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  error_code error;
  tcp::resolver resolver(io);
  const auto found =
      resolver.resolve(host, std::to_string(options.port),
                       tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty())
    return usage_error("the host \"" + host + "\" to listen on is not known: name an address of " +
                       "this machine, 127.0.0.1 for example");
  for (const auto& entry : found) {
    const tcp::endpoint endpoint = entry.endpoint();
    acceptor.emplace(asio::make_strand(io));
    acceptor->open(endpoint.protocol(), error);
    if (!error) acceptor->set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor->bind(endpoint, error);
    if (!error) acceptor->listen(asio::socket_base::max_listen_connections, error);
    if (!error) {
      port = acceptor->local_endpoint(error).port();
      return {};
    }
  }
  return bind_error("port " + std::to_string(options.port) + " of " + host, error);
}

void HttpServer::Impl::add(tcp::socket socket) {
  ++counts.accepted;
  std::shared_ptr<HttpConnection> connection;
  {
    const std::lock_guard lock(mutex);
    if (stopping || closing) return;
    const bool full = counts.connections_open >= options.connections;
    if (full) {
      ++counts.turned_away;
      const auto others = static_cast<int64_t>(connections.size()) - counts.connections_open;
      if (others >= kTurnedAwayAtOnce) return;
    }
    connection = std::make_shared<HttpConnection>(*this, std::move(socket), full);
    connections.insert(connection.get());
    if (!full) ++counts.connections_open;
  }
  connection->start();
}

awaitable<void> HttpServer::Impl::accept_loop() {
  while (!closing) {
    tcp::socket socket(asio::make_strand(io));
    error_code error;
    co_await acceptor->async_accept(socket, into(error));
    if (closing) break;
    if (!error) {
      try {
        add(std::move(socket));
      } catch (const std::exception&) {
        // no memory for this client
      }
      continue;
    }
    // Too many open files, most often: some close in a moment, and until then clients wait.
    retry->expires_after(std::chrono::milliseconds(50));
    co_await retry->async_wait(into(error));
  }
}

void HttpServer::Impl::start() {
  work.emplace(io.get_executor());
  retry.emplace(acceptor->get_executor());
  asio::co_spawn(
      acceptor->get_executor(), [this]() -> awaitable<void> { co_await accept_loop(); },
      asio::detached);
  for (int i = 0; i < options.threads; ++i)
    threads.emplace_back([this] {
      while (true) {
        try {
          io.run();
          return;
        } catch (...) {
          // what a detached coroutine could not handle; the others go on
        }
      }
    });
}

void HttpServer::Impl::close_door() {
  closing = true;
  asio::post(acceptor->get_executor(), [this] {
    error_code ignored;
    acceptor->close(ignored);
    retry->cancel();
  });
  const std::lock_guard lock(mutex);
  for (HttpConnection* connection : connections) connection->end(false);
}

void HttpServer::Impl::stop() {
  if (threads.empty()) return;
  close_door();
  {
    const std::lock_guard lock(mutex);
    stopping = true;
    for (HttpConnection* connection : connections) connection->end(true);
  }
  work.reset();
  for (std::thread& thread : threads) thread.join();
  threads.clear();
}

void HttpServer::Impl::exchange_ended() {
  const std::lock_guard lock(mutex);
  if (--counts.exchanges_open == 0) idle.notify_all();
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { impl_->stop(); }
uint16_t HttpServer::port() const { return impl_->port; }
void HttpServer::close_door() { impl_->close_door(); }

Result<std::unique_ptr<HttpServer>> HttpServer::open(HttpOptions options, HttpHandler handler,
                                                     HttpGate gate, HttpErrorBody error_body) {
  HADAL_TRY(check_http_options(options));
  HADAL_CHECK(handler != nullptr);
  try {
    auto impl = std::make_unique<Impl>();
    impl->options = std::move(options);
    impl->handler = std::move(handler);
    impl->gate = std::move(gate);
    impl->error_body = careful(std::move(error_body));
    HADAL_TRY(impl->load_certificate());
    HADAL_TRY(impl->read_proxies());
    HADAL_TRY(impl->bind());
    std::unique_ptr<HttpServer> server(new HttpServer(std::move(impl)));
    server->impl_->start();
    return server;
  } catch (const std::exception& fault) {
    return failed(std::string("the HTTP server cannot start: ") + fault.what());
  }
}

bool HttpServer::wait_idle(double seconds) {
  std::unique_lock lock(impl_->mutex);
  return impl_->idle.wait_for(lock, seconds_of(seconds),
                              [this] { return impl_->counts.exchanges_open == 0; });
}

HttpCounts HttpServer::counts() const {
  const HttpCounters& c = impl_->counts;
  return {.connections_open = c.connections_open,
          .exchanges_open = c.exchanges_open,
          .accepted = c.accepted,
          .turned_away = c.turned_away,
          .requests = c.requests,
          .refused = c.refused,
          .timed_out = c.timed_out,
          .dropped_slow = c.dropped_slow,
          .gone = c.gone,
          .bytes_in = c.bytes_in,
          .bytes_out = c.bytes_out};
}

}  // namespace hadal::server
