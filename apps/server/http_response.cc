#include "server/http_response.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>

namespace hadal::server {
namespace {

struct Reason {
  int status;
  std::string_view text;
};
constexpr auto kReasons = std::to_array<Reason>({
    {100, "Continue"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {499, "Client Closed Request"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
    {529, "Overloaded"},
});

/// Fields that say how a message is framed or who sends it: never a handler's.
constexpr std::array<std::string_view, 12> kOurs = {"connection",   "content-length",
                                                    "content-type", "date",
                                                    "keep-alive",   "server",
                                                    "te",           "trailer",
                                                    "upgrade",      "transfer-encoding",
                                                    "x-request-id", "x-content-type-options"};

std::string lowered(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

void add_field(std::string& out, std::string_view name, std::string_view value) {
  if (!is_http_token(name) || !is_http_value(value)) return;
  out.append(name).append(": ").append(value).append("\r\n");
}

}  // namespace

bool has_body(int status) { return status >= 200 && status != 204 && status != 304; }

std::string_view http_reason(int status) {
  const auto* found = std::ranges::find(kReasons, status, &Reason::status);
  return found == kReasons.end() ? "Status" : found->text;
}

std::string http_date(int64_t seconds) {
  constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t time = seconds;
  std::tm utc{};
  ::gmtime_r(&time, &utc);  // strftime would follow the locale
  char text[64];
  std::snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", kDays[utc.tm_wday],
                utc.tm_mday, kMonths[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min,
                utc.tm_sec);
  return text;
}

std::string http_head(const HttpResponseHead& head, const HttpHeaders& headers) {
  std::string out = "HTTP/1.1 " + std::to_string(head.status) + " ";
  out.append(http_reason(head.status)).append("\r\n");
  add_field(out, "date", http_date(std::time(nullptr)));
  add_field(out, "server", "hadal");
  add_field(out, "x-request-id", head.id);
  add_field(out, "x-content-type-options", "nosniff");
  bool caches = false;
  for (const auto& [name, value] : headers) {
    const std::string small = lowered(name);
    if (std::ranges::find(kOurs, small) != kOurs.end()) continue;
    if (small == "cache-control") caches = true;
    add_field(out, small, value);
  }
  if (!caches) add_field(out, "cache-control", "no-store");
  if (!head.content_type.empty()) add_field(out, "content-type", head.content_type);
  if (has_body(head.status)) {
    if (head.length)
      add_field(out, "content-length", std::to_string(*head.length));
    else if (head.http_1_1)
      add_field(out, "transfer-encoding", "chunked");
  }
  // A stream to HTTP/1.0 ends where the connection does.
  const bool keep = head.keep_alive && (head.length || head.http_1_1);
  if (!keep)
    add_field(out, "connection", "close");
  else if (!head.http_1_1)
    add_field(out, "connection", "keep-alive");
  return out += "\r\n";
}

void append_chunk(std::string& out, std::string_view bytes) {
  char size[20];
  std::snprintf(size, sizeof size, "%zx\r\n", bytes.size());
  out.append(size).append(bytes).append("\r\n");
}

}  // namespace hadal::server
