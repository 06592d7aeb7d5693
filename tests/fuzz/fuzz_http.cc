// The reader of HTTP requests: how the bytes are cut changes nothing, nothing that it takes breaks
// its own rules, and what it accepts Beast's parser reads alike, to the last byte. The first byte
// of an input says how the others are cut.
#include <boost/beast/http.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "server/http_request.h"

namespace {

using hadal::server::HttpRequest;
using hadal::server::HttpRequestReader;
using State = HttpRequestReader::State;
namespace http = boost::beast::http;

constexpr int64_t kBodyBytes = 4096;
constexpr hadal::server::HttpHeadLimits kLimits = {
    .header_bytes = 4096, .headers = 20, .target_bytes = 512};

struct Read {
  HttpRequestReader reader;
  size_t used = 0;
};

/// Reads one request in pieces of 1 to `most` bytes, whose sizes follow from `seed`.
Read read(std::string_view bytes, size_t most, uint32_t seed) {
  Read out = {.reader = HttpRequestReader(kLimits, kBodyBytes)};
  size_t there = 0;
  while (there < bytes.size() && out.reader.state() != State::kDone &&
         out.reader.state() != State::kFailed) {
    seed = seed * 1664525 + 1013904223;
    there = std::min(bytes.size(), there + 1 + (seed >> 8) % most);
    while (const size_t taken = out.reader.feed(bytes.substr(out.used, there - out.used)))
      out.used += taken;
  }
  return out;
}

void check_rules(const HttpRequest& request) {
  HADAL_CHECK(request.path == "*" || request.path.starts_with('/'));
  HADAL_CHECK(request.path.find("/../") == std::string::npos && !request.path.ends_with("/.."));
  for (const char c : request.path)
    HADAL_CHECK(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f && c != '\\');
  HADAL_CHECK(static_cast<int64_t>(request.headers.size()) <= kLimits.headers);
  HADAL_CHECK(static_cast<int64_t>(request.body.size()) <= kBodyBytes);
  for (const auto& [name, value] : request.headers)
    HADAL_CHECK(hadal::server::is_http_token(name) && hadal::server::is_http_value(value));
}

void check_like_beast(std::string_view bytes, hadal::server::HttpHead& head) {
  if (bytes.starts_with("\r\n")) bytes.remove_prefix(2);  // which Beast does not allow
  // Beast takes these two for a Connection header, we take them for nothing.
  if (!head.request.header("proxy-connection").empty() || !head.request.header("upgrade").empty())
    return;
  http::request_parser<http::string_body> parser;
  parser.eager(true);
  parser.header_limit(1 << 16);
  parser.body_limit(kBodyBytes);
  size_t used = 0;
  boost::beast::error_code error;
  while (used < bytes.size() && !parser.is_done()) {
    const size_t taken =
        parser.put(boost::asio::buffer(bytes.data() + used, bytes.size() - used), error);
    used += taken;
    // Extensions are skipped to the end of their line, whatever they are.
    if (head.chunked && error == http::error::bad_chunk_extension) return;
    HADAL_CHECK(!error && (taken > 0 || parser.is_done()));
  }
  HADAL_CHECK(parser.is_done() && used == bytes.size());
  const auto& message = parser.get();
  HADAL_CHECK(message.method_string() == head.request.method);
  HADAL_CHECK(message.body() == head.request.body);
  HADAL_CHECK(message.chunked() == head.chunked);
  HADAL_CHECK(message.keep_alive() == head.keep_alive);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  Read whole = read(bytes, bytes.size(), 0);
  Read cut = read(bytes, 1 + data[0] % 16, data[0]);
  HADAL_CHECK(whole.reader.state() == cut.reader.state() && whole.used == cut.used);
  const auto &fault = whole.reader.fault(), &other = cut.reader.fault();
  HADAL_CHECK(fault.has_value() == other.has_value());
  if (fault) {
    HADAL_CHECK(fault->status == other->status && fault->message == other->message);
    HADAL_CHECK(fault->status >= 400 && fault->status < 600);
  }
  HADAL_CHECK(whole.reader.head().request.body == cut.reader.head().request.body);
  if (whole.reader.state() != State::kDone) return 0;
  check_rules(whole.reader.head().request);
  check_like_beast(bytes.substr(0, whole.used), whole.reader.head());
  return 0;
}
