// The head of an HTTP response as bytes.
//
// Owns the fields that every response has (date, server, x-request-id, nosniff, no-store, length or
// chunks, connection), and the rule that nothing which came from outside can add a line to a head.
// http_exchange.cc and http_server.cc call it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "server/http_request.h"

namespace hadal::server {

/// What decides about the head of a response.
struct HttpResponseHead {
  int status = 200;
  std::string_view content_type;  ///< "" for none
  std::string_view id;            ///< of the request
  bool http_1_1 = true;           ///< the request's version: chunks need 1.1
  bool keep_alive = true;
  std::optional<int64_t> length;  ///< none: a stream
};

/// The head with its empty line. Of `headers`, those are left out whose name is no token, whose
/// value holds a control character, or that belong to this layer (content-length,
/// transfer-encoding, connection, date, server, x-request-id and the like). A cache-control of
/// theirs takes the place of no-store.
std::string http_head(const HttpResponseHead& head, const HttpHeaders& headers);

/// False for 1xx, 204 and 304, whose responses have no body.
bool has_body(int status);
/// "Not Found" of 404; "Status" of a number without a name.
std::string_view http_reason(int status);
/// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7) of seconds since 1970.
std::string http_date(int64_t seconds);
/// One chunk of a body, ready to send; `bytes` must not be empty, as that would end the body.
void append_chunk(std::string& out, std::string_view bytes);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace hadal::server
