#include "server/http_request.h"

#include <algorithm>
#include <array>

#include "text/tokenizer/utf8.h"

namespace hadal::server {
namespace {

constexpr size_t kMethodBytes = 32;
constexpr size_t kIdBytes = 128;
/// Hexadecimal digits of a chunk's size: what fits a signed number of 64 bits.
constexpr int kSizeDigits = 15;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alnum(char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string lowered(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = lower(c);
  return out;
}

bool is_one_of(char c, std::string_view set) { return set.find(c) != std::string_view::npos; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  c = lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

HttpFault bad(std::string message) { return {.status = 400, .message = std::move(message)}; }

/// The percent-decoded path; none: a '%' without two hexadecimal digits.
std::optional<std::string> decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

std::optional<HttpFault> check_path(std::string_view path) {
  for (size_t i = 0; i < path.size();) {
    const Utf8Step step = utf8_step(path.substr(i));
    if (step.kind != Utf8Step::kValid) return bad("The path is not valid UTF-8.");
    if (step.code < 0x20 || (step.code >= 0x7f && step.code < 0xa0) || step.code == '\\')
      return bad("The path holds a control character or a backslash.");
    i += step.bytes;
  }
  for (size_t begin = 1; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view segment = path.substr(begin, end - begin);
    if (segment == "." || segment == "..")
      return bad("The path holds a segment \".\" or \"..\": write the path that is meant.");
    begin = end + 1;
  }
  return std::nullopt;
}

/// Of the absolute form, "http://host/path", what stands behind the host.
std::string_view without_authority(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (lowered(target.substr(0, scheme.size())) != scheme) continue;
    const size_t end = target.find_first_of("/?", scheme.size());
    return end == std::string_view::npos ? "/" : target.substr(end);
  }
  return target;
}

std::optional<HttpFault> read_target(std::string_view target, const HttpHeadLimits& limits,
                                     HttpRequest& out) {
  if (static_cast<int64_t>(target.size()) > limits.target_bytes)
    return HttpFault{.status = 414,
                     .message = "The request's target is longer than " +
                                std::to_string(limits.target_bytes) + " bytes."};
  for (const char c : target)
    if (static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f || c == '#')
      return bad("The request's target holds a character that must be percent-encoded.");
  if (target == "*" && out.method == "OPTIONS") return out.path = "*", std::nullopt;
  target = without_authority(target);
  const size_t question = target.find('?');
  const std::string_view raw = target.substr(0, question);
  if (raw.empty() && question != std::string_view::npos) {
    out.path = "/";  // of "http://host?query"
  } else {
    if (raw.empty() || raw.front() != '/')
      return bad("The request's target does not begin with /.");
    std::optional<std::string> path = decoded(raw);
    if (!path) return bad("The path holds a % without two hexadecimal digits behind it.");
    if (auto fault = check_path(*path)) return fault;
    out.path = *std::move(path);
  }
  if (question != std::string_view::npos) out.query = target.substr(question + 1);
  return std::nullopt;
}

std::optional<HttpFault> read_version(std::string_view version, HttpHead& out) {
  if (version.size() != 8 || !version.starts_with("HTTP/") || !is_digit(version[5]) ||
      version[6] != '.' || !is_digit(version[7]))
    return bad("The request line does not end with HTTP/1.1 or HTTP/1.0.");
  if (version[5] != '1' || version[7] > '1')
    return HttpFault{.status = 505, .message = "Only HTTP/1.1 and HTTP/1.0 are spoken here."};
  out.http_1_1 = version[7] != '0';
  return std::nullopt;
}

std::optional<HttpFault> read_request_line(std::string_view line, const HttpHeadLimits& limits,
                                           HttpHead& out) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last)
    return bad("The request line is not \"METHOD target HTTP/1.1\".");
  const std::string_view method = line.substr(0, first);
  if (method.size() > kMethodBytes || !is_http_token(method))
    return bad("The request line does not begin with a method.");
  if (auto fault = read_version(line.substr(last + 1), out)) return fault;
  constexpr std::array<std::string_view, 7> kMethods = {"GET",   "HEAD",   "POST",   "PUT",
                                                        "PATCH", "DELETE", "OPTIONS"};
  if (std::ranges::find(kMethods, method) == kMethods.end())
    return HttpFault{.status = 501, .message = "The request's method is not known here."};
  out.request.method = method;
  return read_target(line.substr(first + 1, last - first - 1), limits, out.request);
}

std::optional<HttpFault> read_field(std::string_view line, HttpHeaders& out) {
  if (line.front() == ' ' || line.front() == '\t')
    return bad("A header line begins with a space: folded lines are not allowed.");
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return bad("A header line has no colon.");
  const std::string_view name = line.substr(0, colon);
  if (!is_http_token(name))
    return bad("A header's name is empty, or holds a space or another character not allowed.");
  const std::string_view value = trimmed(line.substr(colon + 1));
  if (!is_http_value(value)) return bad("A header's value holds a control character.");
  out.emplace_back(lowered(name), value);
  return std::nullopt;
}

/// How often a header stands there; `value` is the first one's.
int64_t count_of(const HttpHeaders& headers, std::string_view name, std::string_view& value) {
  int64_t found = 0;
  for (const auto& [other, text] : headers)
    if (other == name && found++ == 0) value = text;
  return found;
}

std::optional<HttpFault> read_host(const HttpHead& head) {
  std::string_view host;
  const int64_t found = count_of(head.request.headers, "host", host);
  if (found > 1) return bad("There is more than one Host header.");
  if (found == 0 && head.http_1_1) return bad("The Host header is missing.");
  for (const char c : host)
    if (!is_alnum(c) && !is_one_of(c, "-._~:%[]!$&'()*+;="))
      return bad("The Host header is not the name or address of a host.");
  return std::nullopt;
}

/// How long the body is (RFC 9112, 6.3), but without the cases in which readers differ.
std::optional<HttpFault> read_length(HttpHead& head) {
  std::string_view coding, length;
  const int64_t codings = count_of(head.request.headers, "transfer-encoding", coding);
  const int64_t lengths = count_of(head.request.headers, "content-length", length);
  if (codings > 0 && lengths > 0)
    return bad("Both Content-Length and Transfer-Encoding are given: send one of them.");
  if (lengths > 1) return bad("There is more than one Content-Length header.");
  if (codings > 0) {
    if (!head.http_1_1) return bad("Transfer-Encoding is not part of HTTP/1.0.");
    if (codings > 1 || lowered(coding) != "chunked")
      return bad("The only Transfer-Encoding known here is \"chunked\", once.");
    head.chunked = true;
  }
  if (lengths == 0) return std::nullopt;
  if (length.empty() || length.size() > 18 || !std::ranges::all_of(length, is_digit))
    return bad("The Content-Length header is not a number of bytes.");
  for (const char c : length) head.content_length = head.content_length * 10 + (c - '0');
  return std::nullopt;
}

std::optional<HttpFault> read_connection(HttpHead& head) {
  head.keep_alive = head.http_1_1;
  bool close = false;
  for (const auto& [name, value] : head.request.headers) {
    if (name != "connection") continue;
    const std::string options = lowered(value);
    for (size_t begin = 0; begin <= options.size();) {
      const size_t end = std::min(options.find(',', begin), options.size());
      const std::string_view option = trimmed(std::string_view(options).substr(begin, end - begin));
      if (!option.empty() && !is_http_token(option))
        return bad("The Connection header is not a list of names.");
      if (option == "close") close = true;
      if (option == "keep-alive") head.keep_alive = true;
      begin = end + 1;
    }
  }
  if (close) head.keep_alive = false;
  return std::nullopt;
}

std::optional<HttpFault> read_expect(HttpHead& head) {
  std::string_view expect;
  if (count_of(head.request.headers, "expect", expect) == 0 || !head.http_1_1) return std::nullopt;
  if (lowered(expect) != "100-continue")
    return HttpFault{.status = 417, .message = "The only Expect known here is 100-continue."};
  head.expect_continue = head.chunked || head.content_length > 0;
  return std::nullopt;
}

bool is_sane_id(std::string_view id) {
  return !id.empty() && id.size() <= kIdBytes &&
         std::ranges::all_of(id, [](char c) { return is_alnum(c) || is_one_of(c, "._-"); });
}

}  // namespace

bool is_http_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return is_alnum(c) || is_one_of(c, "!#$%&'*+-.^_`|~");
  });
}

bool is_http_value(std::string_view value) {
  return std::ranges::none_of(value, [](char c) { return is_control(c) && c != '\t'; });
}

std::string_view HttpRequest::header(std::string_view name) const {
  std::string_view value;
  count_of(headers, name, value);
  return value;
}

std::optional<HttpFault> read_http_head(std::string_view head, const HttpHeadLimits& limits,
                                        HttpHead& out) {
  bool first = true;
  while (true) {
    const size_t end = head.find("\r\n");
    if (end == std::string_view::npos) return bad("The head does not end with an empty line.");
    const std::string_view line = head.substr(0, end);
    head.remove_prefix(end + 2);
    if (first) {
      if (auto fault = read_request_line(line, limits, out)) return fault;
      first = false;
      continue;
    }
    if (line.empty()) break;
    if (static_cast<int64_t>(out.request.headers.size()) >= limits.headers)
      return HttpFault{
          .status = 431,
          .message = "There are more than " + std::to_string(limits.headers) + " headers."};
    if (auto fault = read_field(line, out.request.headers)) return fault;
  }
  if (auto fault = read_host(out)) return fault;
  if (auto fault = read_length(out)) return fault;
  if (auto fault = read_connection(out)) return fault;
  if (const std::string_view id = out.request.header("x-request-id"); is_sane_id(id))
    out.request.id = id;
  return read_expect(out);
}

// --- chunks

void ChunkReader::fail(int status, std::string message) {
  fault_ = HttpFault{.status = status, .message = std::move(message)};
}

void ChunkReader::expect(char c, char wanted, State next) {
  if (c != wanted) return fail(400, "A chunk of the body does not end with CR LF where it has to.");
  state_ = next;
}

void ChunkReader::take_size(char c) {
  if (const int digit = hex_digit(c); digit >= 0) {
    if (++digits_ > kSizeDigits) return fail(400, "The size of a chunk has too many digits.");
    size_ = size_ * 16 + digit;
    // Before any byte of it is read. Does not overflow: both are far below 2^62.
    if (total_ + size_ > body_bytes_)
      fail(413, "The body is longer than " + std::to_string(body_bytes_) + " bytes.");
    return;
  }
  if (digits_ == 0) return fail(400, "A chunk of the body does not begin with its size.");
  if (c == ';')
    state_ = State::kExtension;
  else
    expect(c, '\r', State::kSizeLf);
}

void ChunkReader::take_trailer(char c) {
  if (state_ == State::kTrailer && c == '\r') {
    state_ = State::kEndLf;
    return;
  }
  if (++extras_ > trailer_bytes_)
    return fail(431, "The trailer of the body is longer than " + std::to_string(trailer_bytes_) +
                         " bytes.");
  if (c != '\r') {
    if (is_control(c) && c != '\t')
      return fail(400, "The trailer of the body holds a control character.");
    state_ = State::kTrailerLine;
    line_ += c;
    return;
  }
  state_ = State::kTrailerLf;
  HttpHeaders field;  // is dropped: a proxy may have checked the head alone
  if (auto fault = read_field(line_, field)) return fail(fault->status, fault->message);
  for (const std::string_view name :
       {"transfer-encoding", "content-length", "host", "connection", "proxy-connection", "upgrade"})
    if (field.front().first == name)
      return fail(400, "The trailer of the body holds a header that belongs into the head.");
  line_.clear();
}

void ChunkReader::take(char c) {
  switch (state_) {
    case State::kSize:
      return take_size(c);
    case State::kExtension:
      if (c == '\r')
        state_ = State::kSizeLf;
      else if (is_control(c) && c != '\t')
        fail(400, "The extension of a chunk holds a control character.");
      else if (++extras_ > trailer_bytes_)
        fail(400, "The extensions of the body's chunks are too long.");
      return;
    case State::kSizeLf:
      expect(c, '\n', size_ > 0 ? State::kData : State::kTrailer);
      return;
    case State::kDataCr:
      return expect(c, '\r', State::kDataLf);
    case State::kDataLf:
      expect(c, '\n', State::kSize);
      digits_ = 0;
      size_ = 0;
      return;
    case State::kTrailer:
    case State::kTrailerLine:
      return take_trailer(c);
    case State::kTrailerLf:
      return expect(c, '\n', State::kTrailer);
    case State::kEndLf:
      return expect(c, '\n', State::kDone);
    case State::kData:
    case State::kDone:
      return;
  }
}

size_t ChunkReader::feed(std::string_view bytes, std::string& body) {
  size_t at = 0;
  while (at < bytes.size() && state_ != State::kDone && !fault_) {
    if (state_ != State::kData) {
      take(bytes[at++]);
      continue;
    }
    const size_t part = std::min(bytes.size() - at, static_cast<size_t>(size_));
    body.append(bytes.substr(at, part));
    at += part;
    total_ += static_cast<int64_t>(part);
    size_ -= static_cast<int64_t>(part);
    if (size_ == 0) state_ = State::kDataCr;
  }
  return at;
}

// --- the whole request

void HttpRequestReader::fail(HttpFault fault) {
  fault_ = std::move(fault);
  state_ = State::kFailed;
}

void HttpRequestReader::end_head() {
  state_ = State::kBody;
  if (auto fault = read_http_head(text_, limits_, head_)) return fail(*std::move(fault));
  if (head_.content_length > body_bytes_)
    return fail({.status = 413,
                 .message = "The body has " + std::to_string(head_.content_length) +
                            " bytes; at most " + std::to_string(body_bytes_) + " are allowed."});
  if (!head_.chunked && head_.content_length == 0) state_ = State::kDone;
}

/// One byte of the head; true: it was the last one.
bool HttpRequestReader::take(char c) {
  const char before = text_.empty() ? '\0' : text_.back();
  if ((c == '\n') != (before == '\r'))
    return fail(bad("A line does not end with CR LF: neither may stand alone.")), false;
  if (is_control(c) && !is_one_of(c, "\r\n\t"))
    return fail(bad("The head holds a control character. (Is the client speaking TLS?)")), false;
  if (static_cast<int64_t>(text_.size()) >= limits_.header_bytes)
    return fail({.status = 431,
                 .message = "The head is longer than " + std::to_string(limits_.header_bytes) +
                            " bytes."}),
           false;
  text_ += c;
  // Room for the method and the version; who sends more in the first line means the target.
  if (line_ == 0 && static_cast<int64_t>(text_.size()) > limits_.target_bytes + 64)
    return fail({.status = 414,
                 .message = "The request's target is longer than " +
                            std::to_string(limits_.target_bytes) + " bytes."}),
           false;
  if (c != '\n') return false;
  const bool blank = text_.size() - line_ == 2;
  if (blank && line_ == 0) {
    if (skipped_blank_) return fail(bad("There is no request line.")), false;
    skipped_blank_ = true;
    text_.clear();
    return false;
  }
  line_ = text_.size();
  return blank;
}

size_t HttpRequestReader::feed_head(std::string_view bytes) {
  size_t at = 0;
  while (at < bytes.size() && state_ == State::kHead)
    if (take(bytes[at++])) end_head();
  if (state_ == State::kFailed && head_.request.method.empty()) {
    // for the shape of the error: the path, if its line was whole
    HttpHead partial;
    const size_t end = text_.find("\r\n");
    if (end != std::string::npos &&
        !read_request_line(std::string_view(text_).substr(0, end), limits_, partial))
      head_ = std::move(partial);
  }
  if (state_ != State::kHead) text_ = {};
  return at;
}

size_t HttpRequestReader::feed_body(std::string_view bytes) {
  std::string& body = head_.request.body;
  if (head_.chunked) {
    const size_t taken = chunks_.feed(bytes, body);
    if (chunks_.fault()) fail(*chunks_.fault());
    if (chunks_.done()) state_ = State::kDone;
    return taken;
  }
  const size_t left = static_cast<size_t>(head_.content_length) - body.size();
  const size_t taken = std::min(left, bytes.size());
  body.append(bytes.substr(0, taken));
  if (taken == left) state_ = State::kDone;
  return taken;
}

size_t HttpRequestReader::feed(std::string_view bytes) {
  if (state_ == State::kHead) return feed_head(bytes);
  if (state_ == State::kBody) return feed_body(bytes);
  return 0;
}

}  // namespace hadal::server
