// What an HTTP request is, and the rules that its head has to keep (RFC 9110 and 9112), without a
// socket: bytes in, a request or a refusal out.
//
// Owns the types of the HTTP layer that hold data, and the reader of requests. The reader is strict
// where readers differ, so that no proxy in front of us can be made to see other requests than we
// do: two lengths, a length beside a transfer coding, bare CR or LF, folded lines, spaces before a
// colon, unknown codings, ".." and NUL in a path are refused. http_server.cc calls it; fuzz_http
// feeds it bytes, and compares what it accepts with Beast's parser.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hadal::server {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  ///< "GET"; letters as they came
  /// Percent-decoded once, without the query. Begins with '/' (or is "*"); valid UTF-8, and holds
  /// neither control characters nor a backslash nor a segment "." or "..".
  std::string path;
  std::string query;    ///< behind the first '?', not decoded
  HttpHeaders headers;  ///< names in lower case; values without the spaces around them
  std::string body;
  std::string peer;  ///< "127.0.0.1:40000"; the forwarded address where a trusted proxy says so
  std::string id;    ///< x-request-id where it is 1 to 128 of [A-Za-z0-9._-]; else made by us
  bool tls = false;

  /// The first header of that name (given in lower case), "" if there is none.
  [[nodiscard]] std::string_view header(std::string_view name) const;
};

/// A response that the HTTP layer sends without asking the handler.
struct HttpRefusal {
  int status = 500;
  std::string content_type = "text/plain; charset=utf-8";
  HttpHeaders headers;
  std::string body;
};

/// How large a head may be.
struct HttpHeadLimits {
  int64_t header_bytes = int64_t{64} << 10;  ///< of the whole head, request line included
  int64_t headers = 100;
  int64_t target_bytes = 8192;
};

/// A head that was read, and what it says of the body and the connection.
struct HttpHead {
  HttpRequest request;  ///< without body, peer, id made by us, and tls
  bool http_1_1 = true;
  bool keep_alive = true;
  bool chunked = false;        ///< of the body
  int64_t content_length = 0;  ///< of the body, where it is not chunked
  bool expect_continue = false;
};

/// Why a head was refused. The text is for people, and repeats nothing of what came.
struct HttpFault {
  int status = 400;
  std::string message;
};

/// Reads a head, which ends with its empty line. Refuses with 400, 414, 417, 431, 501 or 505; `out`
/// then holds what could be read before the fault (method, path), for the error's shape.
std::optional<HttpFault> read_http_head(std::string_view head, const HttpHeadLimits& limits,
                                        HttpHead& out);

/// A body in chunks, fed in pieces as they arrive (RFC 9112, 7.1). Memory is bounded by the body's
/// bytes; each byte costs constant time, also in chunks of one byte. Extensions of chunks are
/// skipped within bounds, trailer fields are checked and dropped.
class ChunkReader {
 public:
  ChunkReader(int64_t body_bytes, int64_t trailer_bytes)
      : body_bytes_(body_bytes), trailer_bytes_(trailer_bytes) {}
  /// Takes what belongs to the body from the front of `bytes` and returns how much that was.
  /// Nothing more is taken once done() or failed.
  size_t feed(std::string_view bytes, std::string& body);
  [[nodiscard]] bool done() const { return state_ == State::kDone; }
  [[nodiscard]] const std::optional<HttpFault>& fault() const { return fault_; }

 private:
  enum class State : uint8_t {
    kSize,
    kExtension,
    kSizeLf,
    kData,
    kDataCr,
    kDataLf,
    kTrailer,
    kTrailerLine,
    kTrailerLf,
    kEndLf,
    kDone,
  };
  void take(char c);
  void take_size(char c);
  void take_trailer(char c);
  void expect(char c, char wanted, State next);
  void fail(int status, std::string message);

  int64_t body_bytes_, trailer_bytes_;
  State state_ = State::kSize;
  int64_t size_ = 0;    ///< of the chunk, while it is read; then what is left of it
  int digits_ = 0;      ///< of the size
  int64_t extras_ = 0;  ///< bytes of extensions and trailer
  int64_t total_ = 0;   ///< bytes of the body
  std::string line_;    ///< of the trailer
  std::optional<HttpFault> fault_;
};

/// One request, fed in pieces as they arrive.
class HttpRequestReader {
 public:
  HttpRequestReader(const HttpHeadLimits& limits, int64_t body_bytes)
      : limits_(limits), body_bytes_(body_bytes), chunks_(body_bytes, limits.header_bytes) {}

  enum class State : uint8_t { kHead, kBody, kDone, kFailed };
  /// Takes what belongs to the request from the front of `bytes`, and returns how much that was.
  /// Stops behind the head, so that the body may be refused before it is read: call it again. Takes
  /// nothing once done or failed. Each byte costs constant time, however it is cut.
  size_t feed(std::string_view bytes);

  [[nodiscard]] State state() const { return state_; }
  /// A byte of the request has come.
  [[nodiscard]] bool began() const { return state_ != State::kHead || !text_.empty(); }
  /// Valid behind the head; of a failed one, what could be read.
  [[nodiscard]] HttpHead& head() { return head_; }
  [[nodiscard]] const std::optional<HttpFault>& fault() const { return fault_; }

 private:
  size_t feed_head(std::string_view bytes);
  size_t feed_body(std::string_view bytes);
  bool take(char c);
  void end_head();
  void fail(HttpFault fault);

  HttpHeadLimits limits_;
  int64_t body_bytes_;
  State state_ = State::kHead;
  std::string text_;            ///< of the head
  size_t line_ = 0;             ///< where its last line begins
  bool skipped_blank_ = false;  ///< one empty line before a request is allowed
  HttpHead head_;
  ChunkReader chunks_;
  std::optional<HttpFault> fault_;
};

/// True for the names of fields (RFC 9110, 5.6.2).
bool is_http_token(std::string_view text);
/// True if `value` may stand behind a header's name: no control characters but tabs.
bool is_http_value(std::string_view value);

}  // namespace hadal::server
