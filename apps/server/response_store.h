// ResponseStore: the responses that /v1/responses keeps, in one SQLite file.
//
// Owns the file, its bounds and whose response is whose. A response lies there with the whole
// conversation that led to it, so that previous_response_id needs one look-up. Texts are kept as
// they came; what is in them is the API's (openai_responses.h).
//
// Beyond the bounds the oldest go. What save() acknowledged is there after a kill -9 of the process
// (WAL, synchronous NORMAL); a failing power supply may take the last ones, and nothing older. The
// file is this process's alone while it is open, and only its user may read it. A file that is
// broken, or another program's, is refused in words and left as it is. A disk that is full fails
// one save(), whose caller has its answer all the same.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hadal::server {

struct StoredResponse {
  std::string response = {};  ///< JSON, as the client got it
  std::string items = {};  ///< JSON list: what went in, all of the conversation, and what came out
  int64_t created = 0;     ///< seconds since 1970
};

/// Looks up among the responses of whoever asks. Errors: kNotFound, kFailed.
using ResponseFinder = std::function<Result<StoredResponse>(const std::string& id)>;

struct StoreBounds {
  int64_t most_responses = 10000;
  int64_t most_bytes = int64_t{1} << 30;  ///< of the texts of all of them
};

/// May be called from any thread.
class ResponseStore {
 public:
  /// "" keeps them in memory. Errors: kFailed with the path: unreadable, broken, another program's,
  /// open elsewhere.
  static Result<std::unique_ptr<ResponseStore>> open(const std::string& path, StoreBounds bounds);
  ~ResponseStore();
  ResponseStore(const ResponseStore&) = delete;
  ResponseStore& operator=(const ResponseStore&) = delete;

  /// `owner` names whose it is (the name of a key, never the key). An id that the owner has already
  /// is replaced. Errors: kFailed; the store is as it was.
  Status save(std::string_view owner, std::string_view id, const StoredResponse& stored);
  /// Errors: kNotFound, for another owner's too.
  Result<StoredResponse> find(std::string_view owner, std::string_view id);
  Status erase(std::string_view owner, std::string_view id);

  [[nodiscard]] int64_t responses() const;
  [[nodiscard]] int64_t bytes() const;

 private:
  struct Impl;
  explicit ResponseStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal::server
