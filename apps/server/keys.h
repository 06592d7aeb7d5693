// Who may use the server, and how much: the file of keys, and what each key has used.
//
// Owns the file's form, {"keys": [{"name": "team-a", "key": "sk-..." or "sha256": "<64 hex>",
// "requests_per_minute": 60, "tokens_per_minute": 100000, "max_running": 8, "priority": 0,
// "models": ["name", ...]}]}, and the token buckets. Only a key's digest is kept in memory; a
// presented key is compared with all of them in constant time. Refuses what the file's form does
// not name, by name, and keys that are too short to be secret; never repeats a key in a message.
// `hadal serve` reads it, and again on SIGHUP.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "server/http_request.h"

namespace hadal::server {

struct ApiKey {
  std::string name;  ///< 1 to 64 of [A-Za-z0-9._-]
  Digest digest{};   ///< SHA-256 of the key
  std::optional<int64_t> requests_per_minute, tokens_per_minute, max_running;  ///< none: no limit
  int32_t priority = 0;             ///< as in requests: the smaller runs first
  std::vector<std::string> models;  ///< empty: all

  [[nodiscard]] bool may_use(std::string_view model) const;
};

class KeyRing {
 public:
  /// Errors: kNotFound, kUsage (what is wrong in it, and where), kFailed.
  static Result<KeyRing> read(const std::filesystem::path& path);
  /// The same of a text; `origin` names it in messages.
  static Result<KeyRing> parse(std::string_view text, std::string_view origin);
  /// One key without limits, as `--api-key` gives it. Errors: kUsage, shorter than 16 characters.
  static Result<KeyRing> of(std::string_view key, std::string name = "default");

  /// The key of those whose digest is that of `presented`; null: none. All are looked at, each in
  /// constant time. Lives as long as the ring.
  [[nodiscard]] const ApiKey* find(std::string_view presented) const;
  [[nodiscard]] const std::vector<ApiKey>& keys() const { return keys_; }
  /// A sentence for people, "" if there is nothing to say: others may read the file.
  [[nodiscard]] const std::string& note() const { return note_; }

 private:
  std::vector<ApiKey> keys_;
  std::string note_;
};

/// Token buckets by key: a minute's limit is what a bucket holds, and it fills in a minute.
/// Thread-safe. Keys are known by name, and their limits are those of the ApiKey given last, so a
/// ring that was read again just goes on.
class RateLimiter {
  struct State;

 public:
  /// One admitted request. Counts as running until it is destroyed. May outlive the limiter.
  class Slot {
   public:
    Slot() = default;
    Slot(Slot&& other) noexcept;
    Slot& operator=(Slot&& other) noexcept;
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;
    ~Slot();
    /// Takes generated tokens from the key's bucket, which may go below zero.
    void charge(int64_t tokens);

   private:
    friend class RateLimiter;
    Slot(std::shared_ptr<State> state, std::string name);
    void release();
    std::shared_ptr<State> state_;
    std::string name_;
  };
  struct Verdict {
    bool admitted = false;
    Slot slot;                ///< of an admitted request
    int64_t retry_after = 0;  ///< whole seconds, at least 1, of a refused one
    std::string reason;       ///< of a refused one, a sentence for the client
    /// retry-after where refused; x-ratelimit-{limit,remaining,reset}-{requests,tokens} of the
    /// limits that the key has.
    HttpHeaders headers;
  };
  /// `clock`: seconds that never go back; the steady clock if left out.
  explicit RateLimiter(std::function<double()> clock = {});

  /// Admits a request if the key runs less than max_running, and both buckets hold enough: one
  /// request, and the prompt's tokens (or the whole minute's, if the prompt is longer than that).
  /// Takes them. A refusal takes nothing.
  Verdict admit(const ApiKey& key, int64_t prompt_tokens);
  /// Requests of a key that run.
  [[nodiscard]] int64_t running(std::string_view name) const;
  /// Forgets keys that the ring does not have and that run nothing.
  void forget_others(const KeyRing& ring);

 private:
  std::shared_ptr<State> state_;
};

}  // namespace hadal::server
