#include "server/batch_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "checkpoint/printable.h"
#include "text/chat/json_reader.h"

namespace hadal::server {
namespace {

constexpr std::string_view kIdStart = "batch_req_";
/// Every line of results begins so; a part of it is what a crash may leave.
constexpr std::string_view kLineStart = R"({"id":"batch_req_)";
/// A result may be as long as its answers: n of them, with log-probabilities.
constexpr int64_t kMostResultBytes = int64_t{4} << 30;
/// A line is a body and a little around it.
constexpr int64_t kMostLineBytes = limit("body").most + 4096;
constexpr size_t kPiece = size_t{1} << 18;

std::string system_says(const std::string& name, const char* what) {
  return name + ": " + what + ": " + std::strerror(errno);
}

bool blank(std::string_view text) {
  return text.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace

// ---- lines

Result<LineReader> LineReader::open(const std::filesystem::path& path, int64_t most_bytes) {
  LineReader reader;
  reader.most_ = most_bytes;
  if (path == "-") {
    reader.name_ = "standard input";
    reader.file_ = STDIN_FILENO;
    return reader;
  }
  reader.name_ = path.string();
  reader.file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (reader.file_ < 0) {
    const std::string message = system_says(reader.name_, "cannot be opened");
    return errno == ENOENT ? not_found(message) : failed(message);
  }
  reader.owned_ = true;
  return reader;
}

LineReader::LineReader(LineReader&& other) noexcept
    : name_(std::move(other.name_)),
      file_(std::exchange(other.file_, -1)),
      owned_(std::exchange(other.owned_, false)),
      over_(other.over_),
      most_(other.most_),
      number_(other.number_),
      buffer_(std::move(other.buffer_)),
      at_(other.at_) {}

LineReader::~LineReader() {
  if (owned_) ::close(file_);
}

Status LineReader::fill() {
  buffer_.resize(kPiece);
  at_ = 0;
  ssize_t got = 0;
  do got = ::read(file_, buffer_.data(), buffer_.size());
  while (got < 0 && errno == EINTR);
  if (got < 0) {
    buffer_.clear();
    return failed(system_says(name_, "cannot be read"));
  }
  buffer_.resize(static_cast<size_t>(got));
  over_ = got == 0;
  return {};
}

Result<std::optional<LineReader::Line>> LineReader::next() {
  Line line;
  bool any = false;
  while (true) {
    if (at_ == buffer_.size()) {
      if (!over_) HADAL_TRY(fill());
      if (over_) {
        if (!any) return std::optional<Line>();
        line.ended = false;
        break;
      }
    }
    any = true;
    const size_t end = std::min(buffer_.find('\n', at_), buffer_.size());
    const auto room = static_cast<size_t>(std::max<int64_t>(0, most_ - line.bytes));
    line.text.append(buffer_, at_, std::min(end - at_, room));
    line.bytes += static_cast<int64_t>(end - at_);
    at_ = end;
    if (end == buffer_.size()) continue;
    ++at_;
    break;
  }
  line.number = ++number_;
  return std::optional<Line>(std::move(line));
}

// ---- requests

namespace {

BatchFault fault(int64_t line, std::string code, const std::string& message) {
  return {.code = std::move(code), .message = "line " + std::to_string(line) + ": " + message};
}

/// Members of a line beside the body; its error is the message of a fault.
struct Envelope {
  std::string method, url;
};

Result<Envelope> envelope_of(Fields& fields, std::string& custom_id) {
  if (!fields.find("custom_id")) return usage_error("custom_id: is missing");
  HADAL_TRY(custom_id, fields.text("custom_id", limit("custom_id")));
  Envelope envelope;
  for (const auto& [name, into] :
       {std::pair{"method", &envelope.method}, std::pair{"url", &envelope.url}}) {
    if (!fields.find(name)) return usage_error(std::string(name) + ": is missing");
    HADAL_TRY(*into, fields.text(name));
  }
  const Json* body = fields.find("body");
  if (!body) return usage_error("body: is missing");
  if (!body->is_object()) return wrong_type("body", "an object", *body);
  return envelope;
}

using Request = decltype(BatchItem::request);

/// The call, or why its body is refused.
template <typename Call>
Request call_of(Result<Call> call) {
  if (!call) return api_error(call.error());
  if (call->stream) return api_error(usage_error("stream: a batch has no streams; leave it out"));
  return *std::move(call);
}

}  // namespace

Result<BatchReader> BatchReader::open(const std::filesystem::path& path) {
  HADAL_TRY(LineReader lines, LineReader::open(path, kMostLineBytes));
  return BatchReader(std::move(lines));
}

Result<std::optional<BatchItem>> BatchReader::next() {
  while (true) {
    HADAL_TRY(std::optional<LineReader::Line> line, lines_.next());
    if (!line) return std::optional<BatchItem>();
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    if (line->number == 1 && line->text.starts_with(kByteOrderMark))
      line->text.erase(0, kByteOrderMark.size());
    if (line->bytes <= kMostLineBytes && blank(line->text)) continue;
    return std::optional<BatchItem>(item_of(*line));
  }
}

BatchItem BatchReader::item_of(const LineReader::Line& line) {
  BatchItem item{.line = line.number};
  if (line.bytes > kMostLineBytes) {
    item.request = fault(line.number, "line_too_long",
                         std::to_string(line.bytes) + " bytes were found, at most " +
                             std::to_string(kMostLineBytes) + " are read");
    return item;
  }
  const Result<Json> root =
      chat::read_json(line.text, "request", chat::JsonKeys::kUnique, chat::JsonBody::kMember);
  if (!root || !root->is_object()) {
    const Error error = root ? wrong_type("", "an object", *root) : root.error();
    item.request = fault(line.number, "invalid_line", error.message);
    return item;
  }
  Fields fields(*root, "");
  const Result<Envelope> envelope = envelope_of(fields, item.custom_id);
  if (!envelope) {
    item.request = fault(line.number, "invalid_line", envelope.error().message);
    return item;
  }
  if (!seen_.insert(item.custom_id).second) {
    item.request = fault(line.number, "duplicate_custom_id",
                         "custom_id: " + quote(item.custom_id) + " came before");
    return item;
  }
  const Json& body = *fields.find("body");
  if (envelope->method != "POST")
    item.request = fault(line.number, "invalid_method",
                         "method: \"POST\" is expected, " + quote(envelope->method) + " was found");
  else if (envelope->url == "/v1/chat/completions")
    item.request = call_of(read_chat_call(body));
  else if (envelope->url == "/v1/completions")
    item.request = call_of(read_completion_call(body));
  else
    item.request = fault(line.number, "invalid_url",
                         "url: \"/v1/chat/completions\" or \"/v1/completions\" is expected, " +
                             quote(envelope->url) + " was found");
  return item;
}

// ---- results

bool BatchDone::has(const BatchItem& item) const {
  if (std::holds_alternative<BatchFault>(item.request)) return faulty_lines.contains(item.line);
  return custom_ids.contains(item.custom_id);
}

std::string batch_response_line(int64_t line, std::string_view custom_id, int status,
                                std::string_view request_id, std::string_view body) {
  return std::string(kLineStart) + std::to_string(line) + R"(","custom_id":)" +
         json_text(custom_id) + R"(,"response":{"status_code":)" + std::to_string(status) +
         R"(,"request_id":)" + json_text(request_id) + R"(,"body":)" + std::string(body) +
         "},\"error\":null}\n";
}

std::string batch_error_line(int64_t line, std::string_view custom_id, std::string_view code,
                             std::string_view message) {
  const Json error = {{"code", code}, {"message", message}};
  return std::string(kLineStart) + std::to_string(line) + R"(","custom_id":)" +
         (custom_id.empty() ? "null" : json_text(custom_id)) + R"(,"response":null,"error":)" +
         json_text(error) + "}\n";
}

std::string batch_refusal_line(const BatchItem& item, std::string_view request_id) {
  if (const auto* refused = std::get_if<ApiError>(&item.request))
    return batch_response_line(item.line, item.custom_id, refused->status, request_id,
                               error_body(*refused));
  const auto* none = std::get_if<BatchFault>(&item.request);
  HADAL_CHECK(none != nullptr);
  return batch_error_line(item.line, item.custom_id, none->code, none->message);
}

namespace {

/// Reads of a result what tells whose it is, and nothing else: results may be long.
class ResultSax final : public nlohmann::json_sax<Json> {
 public:
  std::string id, custom_id;
  bool has_id = false, has_response = false, has_error = false;

  bool null() override { return value(false); }
  bool boolean(bool) override { return value(true); }
  bool number_integer(number_integer_t) override { return value(true); }
  bool number_unsigned(number_unsigned_t) override { return value(true); }
  bool number_float(number_float_t, const string_t&) override { return value(true); }
  bool string(string_t& text) override {
    if (depth_ == 1 && key_ == "id")
      id = std::move(text), has_id = true;
    else if (depth_ == 1 && key_ == "custom_id")
      custom_id = std::move(text);
    return value(true);
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return value(true) && ++depth_ < 100; }
  bool start_array(std::size_t) override { return value(true) && depth_ > 0 && ++depth_ < 100; }
  bool end_object() override { return --depth_, true; }
  bool end_array() override { return --depth_, true; }
  bool key(string_t& name) override {
    if (depth_ == 1) key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  bool value(bool something) {
    if (depth_ == 1 && key_ == "response") has_response = something;
    if (depth_ == 1 && key_ == "error") has_error = something;
    return depth_ > 0 || something;
  }
  std::string key_;
  int depth_ = 0;
};

/// The line's number in "batch_req_12".
std::optional<int64_t> line_of(std::string_view id) {
  if (!id.starts_with(kIdStart)) return {};
  id.remove_prefix(kIdStart.size());
  int64_t line = 0;
  const auto read = std::from_chars(id.data(), id.data() + id.size(), line);
  if (read.ec != std::errc() || read.ptr != id.data() + id.size() || line < 1) return {};
  return line;
}

/// Whether this is what a crash leaves of a line of ours: its beginning, or a block that was never
/// filled.
bool is_torn(std::string_view text) {
  const size_t common = std::min(text.size(), kLineStart.size());
  return text.substr(0, common) == kLineStart.substr(0, common) ||
         text.find_first_not_of('\0') == std::string_view::npos;
}

}  // namespace

Result<BatchDone> read_batch_results(const std::filesystem::path& path) {
  BatchDone done;
  auto lines = LineReader::open(path, kMostResultBytes);
  if (!lines && lines.error().code == ErrorCode::kNotFound) return done;
  if (!lines) return std::move(lines).error();
  const auto foreign = [&](int64_t line) {
    return usage_error(
        path.string() + ":" + std::to_string(line) +
        ": no result of a batch was found; name another file, or move this one away");
  };
  while (true) {
    HADAL_TRY(std::optional<LineReader::Line> line, lines->next());
    if (!line) return done;
    if (!line->ended) {
      if (!is_torn(line->text)) return foreign(line->number);
      done.note = path.string() + ":" + std::to_string(line->number) +
                  ": the last line has no end (" + std::to_string(line->bytes) +
                  " bytes): it is dropped, its request runs again";
      return done;
    }
    ResultSax result;
    const bool read = Json::sax_parse(line->text, &result);
    const std::optional<int64_t> number = line_of(result.id);
    if (!read || !number || result.has_response == result.has_error) return foreign(line->number);
    if (result.has_response)
      done.custom_ids.insert(std::move(result.custom_id));
    else
      done.faulty_lines.insert(*number);
    done.whole_bytes += line->bytes + 1;
  }
}

Error BatchWriter::error(const char* what) const { return failed(system_says(name_, what)); }

Result<BatchWriter> BatchWriter::open(const std::filesystem::path& path, const BatchDone& done) {
  BatchWriter writer;
  writer.name_ = path.string();
  writer.file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (writer.file_ < 0) return writer.error("cannot be opened");
  if (::flock(writer.file_, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK)
      return usage_error(writer.name_ +
                         ": another run writes this file; wait for it, or name "
                         "another file");
    return writer.error("cannot be locked");
  }
  writer.bytes_ = done.whole_bytes;
  const off_t size = ::lseek(writer.file_, 0, SEEK_END);
  if (size < 0) return writer.error("its end cannot be found");
  // Between reading and locking it another run may have gone on.
  if (size < done.whole_bytes || (size > done.whole_bytes && done.note.empty()))
    return usage_error(writer.name_ + ": has changed since it was read; start again");
  if (size > done.whole_bytes && ::ftruncate(writer.file_, done.whole_bytes) != 0)
    return writer.error("its torn last line cannot be cut off");
  if (::lseek(writer.file_, done.whole_bytes, SEEK_SET) < 0)
    return writer.error("its end cannot be found");
  return writer;
}

BatchWriter::BatchWriter(BatchWriter&& other) noexcept
    : name_(std::move(other.name_)), file_(std::exchange(other.file_, -1)), bytes_(other.bytes_) {}

BatchWriter::~BatchWriter() {
  if (file_ >= 0) ::close(file_);
}

Status BatchWriter::write(std::string_view line) {
  HADAL_CHECK(!line.empty() && line.back() == '\n');
  std::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t put = ::write(file_, rest.data(), rest.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      const Error why = error("a result cannot be written");
      // What was written of the line goes, if the system lets it; else a reader drops it.
      if (::ftruncate(file_, bytes_) == 0) (void)::lseek(file_, bytes_, SEEK_SET);
      return why;
    }
    rest.remove_prefix(static_cast<size_t>(put));
  }
  bytes_ += static_cast<int64_t>(line.size());
  return {};
}

Status BatchWriter::finish() {
  if (::fsync(file_) != 0 && errno != EINVAL && errno != EROFS) return error("cannot be synced");
  return {};
}

}  // namespace hadal::server
