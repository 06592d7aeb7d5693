// OpenAI's batch files: a request a line in, a result a line out.
//
//   {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {…}}
//   {"id": "batch_req_1", "custom_id": "a", "response": {"status_code", "request_id", "body"},
//    "error": null}
//
// A line whose body is refused gets a response with the API's own error and status. A line that is
// no request at all (no JSON, no custom_id, a custom_id that came before, another method or url)
// gets "response": null and an error {code, message}. Nothing in the input ends the run; only a
// file that cannot be read does. `id` is "batch_req_" and the number of the line.
//
// Results are appended whole lines, in any order, so a run that ended anywhere can go on: a reader
// of the results says what is done. A last line without its end is what a crash left: it is
// dropped, and that is said. Two runs do not write one file: it is locked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <variant>

#include "base/result.h"
#include "server/api_error.h"
#include "server/openai_chat.h"
#include "server/openai_completion.h"

namespace hadal::server {

/// Why a line is no request.
struct BatchFault {
  std::string code = {};  ///< "invalid_line", "duplicate_custom_id", …
  std::string message = {};
};

/// One line of the input.
struct BatchItem {
  int64_t line = 0;            ///< from 1; blank lines count
  std::string custom_id = {};  ///< "" where the line has none that can be used
  /// A request; or one whose body is refused; or no request.
  std::variant<ChatCall, CompletionCall, ApiError, BatchFault> request = BatchFault{};
};

/// What a file of results holds.
struct BatchDone {
  std::unordered_set<std::string> custom_ids = {};  ///< with a response
  std::unordered_set<int64_t> faulty_lines = {};    ///< with an error: by line, as ids may repeat
  int64_t whole_bytes = 0;                          ///< of the file's whole lines
  std::string note = {};                            ///< a sentence about a torn last line, or ""

  [[nodiscard]] bool has(const BatchItem& item) const;
};

/// Bytes of a file as lines, each of bounded length.
class LineReader {
 public:
  /// `path` "-" is standard input.
  static Result<LineReader> open(const std::filesystem::path& path, int64_t most_bytes);
  LineReader(LineReader&& other) noexcept;
  LineReader& operator=(LineReader&&) = delete;
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  ~LineReader();

  struct Line {
    int64_t number = 0;     ///< from 1
    std::string text = {};  ///< without its end; the first `most_bytes` of one that is longer
    int64_t bytes = 0;      ///< of the whole line, without its end
    bool ended = true;      ///< by a newline; the file's last may lack it
  };
  /// None behind the last. Errors: kFailed, of the file.
  Result<std::optional<Line>> next();

 private:
  LineReader() = default;
  Status fill();
  std::string name_;
  int file_ = -1;
  bool owned_ = false, over_ = false;
  int64_t most_ = 0, number_ = 0;
  std::string buffer_;
  size_t at_ = 0;
};

/// Reads requests one by one, so that a file may be larger than memory.
class BatchReader {
 public:
  static Result<BatchReader> open(const std::filesystem::path& path);
  /// None behind the last line. Blank lines are left out. Errors: kFailed, of the file.
  Result<std::optional<BatchItem>> next();

 private:
  explicit BatchReader(LineReader lines) : lines_(std::move(lines)) {}
  BatchItem item_of(const LineReader::Line& line);
  LineReader lines_;
  std::unordered_set<std::string> seen_;
};

/// What a file of results says is done; nothing if there is no such file. Errors: kUsage where it
/// holds something else, so that no foreign file is written over.
Result<BatchDone> read_batch_results(const std::filesystem::path& path);

/// Lines of results, with their newline.
std::string batch_response_line(int64_t line, std::string_view custom_id, int status,
                                std::string_view request_id, std::string_view body);
std::string batch_error_line(int64_t line, std::string_view custom_id, std::string_view code,
                             std::string_view message);
/// Of an item that is no call: its result is known at once. HADAL_CHECK: it is none.
std::string batch_refusal_line(const BatchItem& item, std::string_view request_id);

/// Appends results.
class BatchWriter {
 public:
  /// Opens or makes the file, locks it, and cuts off what `done` says is torn. Errors: kFailed;
  /// kUsage where another run holds it.
  static Result<BatchWriter> open(const std::filesystem::path& path, const BatchDone& done);
  BatchWriter(BatchWriter&& other) noexcept;
  BatchWriter& operator=(BatchWriter&&) = delete;
  BatchWriter(const BatchWriter&) = delete;
  BatchWriter& operator=(const BatchWriter&) = delete;
  ~BatchWriter();

  /// `line` ends with its newline. Of a line that does not fit on the disk nothing stays.
  Status write(std::string_view line);
  /// Everything is on the disk.
  Status finish();

 private:
  BatchWriter() = default;
  [[nodiscard]] Error error(const char* what) const;
  std::string name_;
  int file_ = -1;
  int64_t bytes_ = 0;
};

}  // namespace hadal::server
