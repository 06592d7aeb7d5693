#include "server/http_exchange.h"

#include <algorithm>
#include <utility>

#include "server/http_response.h"

namespace hadal::server {
namespace {

class Exchange final : public HttpExchange {
 public:
  explicit Exchange(std::shared_ptr<HttpChannel> channel) : channel_(std::move(channel)) {}
  ~Exchange() override {
    try {
      channel_->fail();
    } catch (...) {
      channel_->abort();  // no memory for the answer: the client sees the connection end
    }
  }
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  [[nodiscard]] const HttpRequest& request() const override { return channel_->request(); }
  void respond(int status, std::string content_type, HttpHeaders headers,
               std::string body) override {
    channel_->respond(status, content_type, headers, body);
  }
  void begin(int status, std::string content_type, HttpHeaders headers) override {
    channel_->begin(status, content_type, headers);
  }
  bool send(std::string piece) override { return channel_->send(piece); }
  void finish() override { channel_->finish(); }
  void abort() override { channel_->abort(); }
  void on_gone(std::function<void()> gone) override { channel_->on_gone(std::move(gone)); }
  [[nodiscard]] bool gone() const override { return channel_->gone(); }
  [[nodiscard]] int64_t waiting_bytes() const override { return channel_->waiting_bytes(); }

 private:
  std::shared_ptr<HttpChannel> channel_;
};

}  // namespace

std::shared_ptr<HttpExchange> make_exchange(std::shared_ptr<HttpChannel> channel) {
  return std::make_shared<Exchange>(std::move(channel));
}

void HttpChannel::wake_locked() {
  if (wire_ == nullptr || woken_) return;
  woken_ = true;
  wire_->wake();
}

void HttpChannel::complete_locked() {
  state_ = State::kComplete;
  wake_locked();
}

void HttpChannel::respond(int status, std::string_view content_type, const HttpHeaders& headers,
                          std::string_view body) {
  std::function<void()> let_go;  // destroyed outside the lock: it may hold the exchange
  const std::lock_guard lock(mutex_);
  if (state_ != State::kOpen || gone_) return;
  pending_ = http_head({.status = status,
                        .content_type = content_type,
                        .id = setup_.request.id,
                        .http_1_1 = setup_.http_1_1,
                        .keep_alive = setup_.keep_alive && !close_,
                        .length = static_cast<int64_t>(body.size())},
                       headers);
  if (setup_.request.method != "HEAD" && has_body(status)) pending_ += body;
  waiting_ = static_cast<int64_t>(pending_.size());
  let_go.swap(on_gone_);
  complete_locked();
}

void HttpChannel::begin(int status, std::string_view content_type, const HttpHeaders& headers) {
  const std::lock_guard lock(mutex_);
  if (state_ != State::kOpen || gone_) return;
  pending_ = http_head({.status = status,
                        .content_type = content_type,
                        .id = setup_.request.id,
                        .http_1_1 = setup_.http_1_1,
                        .keep_alive = setup_.keep_alive && !close_},
                       headers);
  waiting_ = head_ = static_cast<int64_t>(pending_.size());
  if (!setup_.http_1_1) close_ = true;
  body_ = setup_.request.method != "HEAD" && has_body(status);
  chunks_ = body_ && setup_.http_1_1;
  state_ = State::kBegun;
  wake_locked();
}

bool HttpChannel::send(std::string_view piece) {
  const std::lock_guard lock(mutex_);
  if (state_ != State::kBegun || gone_) return false;
  if (!body_ || piece.empty()) return true;
  // A single piece larger than the bound is memory that the caller has already: it may pass.
  const auto size = static_cast<int64_t>(piece.size());
  if (waiting_ > head_ && waiting_ + size > setup_.stream_bytes) {
    gone_ = true;
    pending_ = {};
    if (wire_ != nullptr) wire_->drop_slow();
    return false;
  }
  const size_t before = pending_.size();
  if (chunks_)
    append_chunk(pending_, piece);
  else
    pending_ += piece;
  waiting_ += static_cast<int64_t>(pending_.size() - before);
  wake_locked();
  return true;
}

void HttpChannel::finish() {
  std::function<void()> let_go;
  const std::lock_guard lock(mutex_);
  if (state_ != State::kBegun || gone_) return;
  if (chunks_) {
    pending_ += kLastChunk;
    waiting_ += static_cast<int64_t>(kLastChunk.size());
  }
  let_go.swap(on_gone_);
  complete_locked();
}

void HttpChannel::abort() {
  std::function<void()> let_go;
  const std::lock_guard lock(mutex_);
  if (state_ == State::kComplete || gone_) return;
  broken_ = true;
  let_go.swap(on_gone_);
  complete_locked();
}

void HttpChannel::fail() {
  {
    const std::lock_guard lock(mutex_);
    if (state_ == State::kComplete || gone_) return;
  }
  HttpRefusal refusal = setup_.error_body(request(), 500, "The server failed to answer.");
  respond(500, refusal.content_type, refusal.headers, refusal.body);
  abort();  // does nothing unless a stream has begun
}

void HttpChannel::on_gone(std::function<void()> gone) {
  {
    const std::lock_guard lock(mutex_);
    if (!gone_) {
      if (state_ != State::kComplete) std::swap(on_gone_, gone);
      return;
    }
    if (state_ == State::kComplete) return;
  }
  gone();
}

bool HttpChannel::gone() const {
  const std::lock_guard lock(mutex_);
  return gone_;
}

int64_t HttpChannel::waiting_bytes() const {
  const std::lock_guard lock(mutex_);
  return waiting_;
}

bool HttpChannel::ready() const {
  const std::lock_guard lock(mutex_);
  return !pending_.empty() || state_ == State::kComplete;
}

std::string HttpChannel::take() {
  const std::lock_guard lock(mutex_);
  woken_ = false;
  return std::exchange(pending_, {});
}

void HttpChannel::written(size_t bytes) {
  const std::lock_guard lock(mutex_);
  waiting_ = std::max<int64_t>(0, waiting_ - static_cast<int64_t>(bytes));  // 0 once gone
}

bool HttpChannel::complete() const {
  const std::lock_guard lock(mutex_);
  return state_ == State::kComplete && pending_.empty();
}

bool HttpChannel::broken() const {
  const std::lock_guard lock(mutex_);
  return broken_;
}

bool HttpChannel::keep_alive() const {
  const std::lock_guard lock(mutex_);
  return setup_.keep_alive && !close_ && !broken_ && !gone_;
}

void HttpChannel::close_after() {
  const std::lock_guard lock(mutex_);
  close_ = true;
}

bool HttpChannel::leave() {
  std::function<void()> gone;
  bool open = false;
  {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    pending_ = {};
    waiting_ = 0;
    open = state_ != State::kComplete;
    gone.swap(on_gone_);
  }
  if (gone) gone();
  return open;
}

void HttpChannel::sever() {
  const std::lock_guard lock(mutex_);
  wire_ = nullptr;
}

}  // namespace hadal::server
