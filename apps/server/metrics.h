// Metrics: what the server counts, in Prometheus' text format, under our own names and, by a
// switch, under vLLM's, which dashboards and the Kubernetes gateway's inference extension know.
//
// Thread-safe. Holds no text of a request: labels are names of keys, models, statuses and ends.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "engine/engine_thread.h"
#include "server/call_desk.h"
#include "server/http_server.h"

namespace hadal::server {

/// A distribution over fixed bounds.
class Histogram {
 public:
  /// `times`: so many observations of the same value.
  void add(double value, int64_t times = 1);
  /// Lines of the text format, without # lines.
  void write(std::string& out, std::string_view name) const;

 private:
  static constexpr std::array<double, 16> kBounds = {
      0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300};
  std::array<int64_t, kBounds.size() + 1> counts_{};
  double sum_ = 0;
};

class Metrics {
 public:
  /// What does not change while the server runs.
  struct About {
    std::string version, model, chip;
    std::vector<std::string> adapters;
    int64_t block_tokens = 0, blocks = 0;  ///< of the cache, for vLLM's cache_config_info
    bool vllm_names = false;
  };
  /// What is asked for at the moment of writing.
  struct Now {
    EngineThread::Snapshot engine;
    HttpCounts http;
    int64_t preparing = 0;  ///< calls that are read and made ready
  };
  explicit Metrics(About about) : about_(std::move(about)) {}

  /// A call begins; `adapter`: "" for none. Paired with over().
  void begin(const std::string& adapter);
  /// A call is over. `key`: its name, "" where there are no keys.
  void over(const std::string& key, const std::string& adapter, const CallRecord& record);
  /// A request that was refused before it was a call.
  void refused(const std::string& key, int status);
  void tokens(double seconds, int64_t tokens);
  [[nodiscard]] std::string text(const Now& now) const;

 private:
  void write_own(std::string& out, const Now& now) const;
  void write_vllm(std::string& out, const Now& now) const;

  const About about_;
  mutable std::mutex mutex_;
  /// Key, status, end.
  std::map<std::tuple<std::string, int, std::string>, int64_t> requests_;
  std::map<std::string, UsageCounts> usage_;      ///< by key
  std::map<std::string, int64_t> open_adapters_;  ///< calls that are not over
  Histogram first_token_, between_tokens_, whole_;
};

}  // namespace hadal::server
