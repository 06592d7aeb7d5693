#include "server/keys.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <utility>

#include "base/file.h"

namespace hadal::server {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kLeastKeyBytes = 16, kMostKeyBytes = 512, kMostNameBytes = 64;
constexpr int64_t kMostFileBytes = int64_t{16} << 20;
constexpr int64_t kMostLimit = 1'000'000'000'000;
constexpr double kMinute = 60;
/// What is forgiven of a bucket's level, which is a sum of many small numbers.
constexpr double kRounding = 1e-6;

Digest digest_of(std::string_view key) {
  Sha256 hash;
  hash.add(std::as_bytes(std::span(key)));  // the bytes alone, as sha256sum has them
  return hash.finish();
}

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= kMostNameBytes && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

Status check_key(std::string_view key, const std::string& where) {
  if (key.size() < kLeastKeyBytes || key.size() > kMostKeyBytes)
    return usage_error(where + " has " + std::to_string(key.size()) +
                       " characters: " + std::to_string(kLeastKeyBytes) + " to " +
                       std::to_string(kMostKeyBytes) + " are expected");
  // It travels in a header.
  if (!std::ranges::all_of(key, [](char c) { return c > 0x20 && c < 0x7f; }))
    return usage_error(where + " holds a space, a control character or a letter outside of ASCII");
  return {};
}

std::optional<Digest> digest_from_hex(std::string_view text) {
  Digest digest{};
  if (text.size() != digest.size() * 2) return std::nullopt;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    digest[i / 2] = (digest[i / 2] << 4) | static_cast<std::byte>(digit);
  }
  return digest;
}

/// A whole number from `least` to `most`; none: the member is left out.
Result<std::optional<int64_t>> number(const Json& entry, const char* name, int64_t least,
                                      int64_t most, const std::string& where) {
  const auto found = entry.find(name);
  if (found == entry.end()) return std::optional<int64_t>();
  const Error wrong = usage_error(where + "." + name + " is not a whole number from " +
                                  std::to_string(least) + " to " + std::to_string(most));
  if (!found->is_number_integer()) return wrong;
  if (found->is_number_unsigned() && found->get<uint64_t>() > uint64_t{INT64_MAX}) return wrong;
  const auto value = found->get<int64_t>();
  if (value < least || value > most) return wrong;
  return std::optional<int64_t>(value);
}

Result<std::string> text(const Json& entry, const char* name, const std::string& where) {
  const auto found = entry.find(name);
  if (found == entry.end() || !found->is_string())
    return usage_error(where + "." + name + " is missing, or not a text");
  return found->get<std::string>();
}

Status read_digest(const Json& entry, const std::string& where, ApiKey& out) {
  if (entry.contains("key") == entry.contains("sha256"))
    return usage_error(where + " needs either \"key\" or \"sha256\", and not both");
  if (entry.contains("key")) {
    HADAL_TRY(const std::string key, text(entry, "key", where));
    HADAL_TRY(check_key(key, where + ".key"));
    out.digest = digest_of(key);
    return {};
  }
  HADAL_TRY(const std::string hex, text(entry, "sha256", where));
  const auto digest = digest_from_hex(hex);
  if (!digest)
    return usage_error(where + ".sha256 is not a SHA-256 in 64 hexadecimal digits: " +
                       "`printf %s KEY | sha256sum` prints one");
  out.digest = *digest;
  return {};
}

Status read_models(const Json& entry, const std::string& where, ApiKey& out) {
  const auto models = entry.find("models");
  if (models == entry.end()) return {};
  if (!models->is_array() || models->empty())
    return usage_error(where + ".models is not a list of names: leave it out to allow all");
  for (const Json& model : *models) {
    if (!model.is_string() || model.get_ref<const std::string&>().empty())
      return usage_error(where + ".models holds something that is no name");
    out.models.push_back(model.get<std::string>());
  }
  return {};
}

Result<ApiKey> read_entry(const Json& entry, const std::string& where) {
  if (!entry.is_object()) return usage_error(where + " is not an object");
  static constexpr std::string_view kMembers[] = {
      "name",        "key",      "sha256", "requests_per_minute", "tokens_per_minute",
      "max_running", "priority", "models"};
  for (const auto& [name, value] : entry.items())
    if (std::ranges::find(kMembers, name) == std::end(kMembers))
      return usage_error(where + " has a member " +
                         Json(name).dump(-1, ' ', true, Json::error_handler_t::replace) +
                         " that is not known: known are name, key, sha256, requests_per_minute, "
                         "tokens_per_minute, max_running, priority and models");
  ApiKey out;
  HADAL_TRY(out.name, text(entry, "name", where));
  if (!is_name(out.name))
    return usage_error(where + ".name is not 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'");
  HADAL_TRY(read_digest(entry, where, out));
  HADAL_TRY(out.requests_per_minute, number(entry, "requests_per_minute", 1, kMostLimit, where));
  HADAL_TRY(out.tokens_per_minute, number(entry, "tokens_per_minute", 1, kMostLimit, where));
  HADAL_TRY(out.max_running, number(entry, "max_running", 1, kMostLimit, where));
  HADAL_TRY(const auto priority, number(entry, "priority", INT32_MIN, INT32_MAX, where));
  out.priority = static_cast<int32_t>(priority.value_or(0));
  HADAL_TRY(read_models(entry, where, out));
  return out;
}

/// The file as JSON. The parser's own message is not passed on: it repeats what it read, keys
/// included.
Result<Json> read_json(std::string_view text, const std::string& origin) {
  try {
    int depth_of_twice = 0;
    std::vector<std::set<std::string>> names;
    Json json = Json::parse(text, [&](int depth, Json::parse_event_t event, Json& parsed) {
      if (event == Json::parse_event_t::object_start) names.emplace_back();
      if (event == Json::parse_event_t::object_end) names.pop_back();
      if (event == Json::parse_event_t::key && !names.back().insert(parsed).second)
        depth_of_twice = depth;
      return true;
    });
    if (depth_of_twice > 0)
      return usage_error(origin + " has an object with the same member twice");
    return json;
  } catch (const Json::parse_error& error) {
    const std::string_view before = text.substr(0, std::min(error.byte, text.size()));
    return usage_error(origin + " is not JSON: line " +
                       std::to_string(1 + std::ranges::count(before, '\n')) + " cannot be read");
  } catch (const Json::exception&) {
    return usage_error(origin + " is not JSON that can be read");
  }
}

}  // namespace

bool ApiKey::may_use(std::string_view model) const {
  return models.empty() || std::ranges::find(models, model) != models.end();
}

Result<KeyRing> KeyRing::parse(std::string_view text, std::string_view origin) {
  const std::string from(origin);
  HADAL_TRY(const Json json, read_json(text, from));
  if (!json.is_object() || json.size() != 1 || !json.contains("keys") || !json["keys"].is_array())
    return usage_error(
        from + " is not of the form {\"keys\": [{\"name\": \"...\", \"key\": \"...\"}, ...]}");
  KeyRing ring;
  std::set<std::string> names;
  std::set<Digest> digests;
  for (const Json& entry : json["keys"]) {
    const std::string where = from + ": keys[" + std::to_string(ring.keys_.size()) + "]";
    HADAL_TRY(ApiKey key, read_entry(entry, where));
    if (!names.insert(key.name).second)
      return usage_error(where + ": the name " + key.name + " is there twice");
    if (!digests.insert(key.digest).second)
      return usage_error(where + ": the key of " + key.name + " is another's, too");
    ring.keys_.push_back(std::move(key));
  }
  if (ring.keys_.empty()) return usage_error(from + " holds no key: nobody could use the server");
  return ring;
}

Result<KeyRing> KeyRing::read(const std::filesystem::path& path) {
  HADAL_TRY(const std::string text, read_text_file(path, kMostFileBytes));
  HADAL_TRY(KeyRing ring, parse(text, path.string()));
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!error &&
      (status.permissions() & std::filesystem::perms::others_read) != std::filesystem::perms::none)
    ring.note_ = "Every user of this machine may read the keys in " + path.string() +
                 ": `chmod o-r` stops that.";
  return ring;
}

Result<KeyRing> KeyRing::of(std::string_view key, std::string name) {
  HADAL_TRY(check_key(key, "the key"));
  if (!is_name(name)) return usage_error("the key's name is not 1 to 64 of [A-Za-z0-9._-]");
  KeyRing ring;
  ring.keys_.push_back({.name = std::move(name), .digest = digest_of(key)});
  return ring;
}

const ApiKey* KeyRing::find(std::string_view presented) const {
  const Digest digest = digest_of(presented);
  const ApiKey* found = nullptr;
  for (const ApiKey& key : keys_)  // all of them: where a key stands must not be told by the time
    if (CRYPTO_memcmp(key.digest.data(), digest.data(), digest.size()) == 0) found = &key;
  return found;
}

// --- limits

struct RateLimiter::State {
  struct Bucket {
    std::optional<int64_t> limit;  ///< in a minute, and what it holds
    double level = 0;

    void set(std::optional<int64_t> now) {
      if (now == limit) return;
      const double most = static_cast<double>(now.value_or(0));
      level = limit ? std::min(level, most) : most;
      limit = now;
    }
    void fill(double seconds) {
      const double most = static_cast<double>(limit.value_or(0));
      level = std::min(most, level + most * seconds / kMinute);
    }
    /// Seconds until it holds `amount`; 0: it does.
    [[nodiscard]] double wait(double amount) const {
      if (!limit || level + kRounding >= amount) return 0;
      return (amount - level) * kMinute / static_cast<double>(*limit);
    }
    void take(double amount) {
      if (limit) level -= amount;
    }
    void describe(const std::string& what, HttpHeaders& out) const {
      if (!limit) return;
      const auto left = static_cast<int64_t>(std::max(0.0, std::floor(level + kRounding)));
      const auto reset = static_cast<int64_t>(std::ceil(wait(static_cast<double>(*limit))));
      out.emplace_back("x-ratelimit-limit-" + what, std::to_string(*limit));
      out.emplace_back("x-ratelimit-remaining-" + what, std::to_string(left));
      out.emplace_back("x-ratelimit-reset-" + what, std::to_string(reset) + "s");
    }
  };
  struct Use {
    Bucket requests, tokens;
    double filled = 0;  ///< when
    int64_t running = 0;

    void fill(double now) {
      const double seconds = std::max(0.0, now - filled);
      requests.fill(seconds);
      tokens.fill(seconds);
      filled = now;
    }
  };

  std::function<double()> clock;
  mutable std::mutex mutex;
  std::map<std::string, Use, std::less<>> uses;
};

RateLimiter::RateLimiter(std::function<double()> clock) : state_(std::make_shared<State>()) {
  state_->clock = clock ? std::move(clock) : [] {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double>(now).count();
  };
}

RateLimiter::Verdict RateLimiter::admit(const ApiKey& key, int64_t prompt_tokens) {
  const std::lock_guard lock(state_->mutex);
  const double now = state_->clock();
  auto [place, fresh] = state_->uses.try_emplace(key.name);
  State::Use& use = place->second;
  if (fresh) use.filled = now;
  use.fill(now);
  use.requests.set(key.requests_per_minute);
  use.tokens.set(key.tokens_per_minute);

  Verdict verdict;
  // A prompt longer than a minute's tokens is let in when the bucket is full, and puts it in debt.
  const auto need = static_cast<double>(
      std::clamp<int64_t>(prompt_tokens, 1, key.tokens_per_minute.value_or(INT64_MAX)));
  const double requests_wait = use.requests.wait(1), tokens_wait = use.tokens.wait(need);
  double wait = std::max(requests_wait, tokens_wait);
  if (requests_wait > 0)
    verdict.reason = "The limit of " + std::to_string(*key.requests_per_minute) +
                     " requests per minute of this key is reached.";
  else if (tokens_wait > 0)
    verdict.reason = "The limit of " + std::to_string(*key.tokens_per_minute) +
                     " tokens per minute of this key is reached.";
  else if (key.max_running && use.running >= *key.max_running) {
    verdict.reason = "This key already runs " + std::to_string(use.running) +
                     " requests, as many as it may at a time.";
    wait = 1;
  }
  verdict.admitted = verdict.reason.empty();
  if (verdict.admitted) {
    use.requests.take(1);
    use.tokens.take(static_cast<double>(std::max<int64_t>(0, prompt_tokens)));
    ++use.running;
    verdict.slot = Slot(state_, key.name);
  } else {
    verdict.retry_after = std::max<int64_t>(1, static_cast<int64_t>(std::ceil(wait)));
    verdict.headers.emplace_back("retry-after", std::to_string(verdict.retry_after));
  }
  use.requests.describe("requests", verdict.headers);
  use.tokens.describe("tokens", verdict.headers);
  return verdict;
}

int64_t RateLimiter::running(std::string_view name) const {
  const std::lock_guard lock(state_->mutex);
  const auto use = state_->uses.find(name);
  return use == state_->uses.end() ? 0 : use->second.running;
}

void RateLimiter::forget_others(const KeyRing& ring) {
  const std::lock_guard lock(state_->mutex);
  std::erase_if(state_->uses, [&](const auto& use) {
    return use.second.running == 0 &&
           std::ranges::find(ring.keys(), use.first, &ApiKey::name) == ring.keys().end();
  });
}

RateLimiter::Slot::Slot(std::shared_ptr<State> state, std::string name)
    : state_(std::move(state)), name_(std::move(name)) {}
RateLimiter::Slot::Slot(Slot&& other) noexcept
    : state_(std::exchange(other.state_, nullptr)), name_(std::move(other.name_)) {}
RateLimiter::Slot& RateLimiter::Slot::operator=(Slot&& other) noexcept {
  if (this == &other) return *this;
  release();
  state_ = std::exchange(other.state_, nullptr);
  name_ = std::move(other.name_);
  return *this;
}
RateLimiter::Slot::~Slot() { release(); }

void RateLimiter::Slot::charge(int64_t tokens) {
  if (!state_) return;
  const std::lock_guard lock(state_->mutex);
  const auto use = state_->uses.find(name_);
  if (use == state_->uses.end()) return;
  use->second.fill(state_->clock());
  use->second.tokens.take(static_cast<double>(std::max<int64_t>(0, tokens)));
}

void RateLimiter::Slot::release() {
  if (!state_) return;
  const std::lock_guard lock(state_->mutex);
  const auto use = state_->uses.find(name_);
  if (use != state_->uses.end()) --use->second.running;
}

}  // namespace hadal::server
