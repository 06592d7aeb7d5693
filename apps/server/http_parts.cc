#include "server/http_parts.h"

#include <cstdio>
#include <random>

namespace hadal::server {
namespace {

uint64_t mix(uint64_t x) {  // the finaliser of SplitMix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

IdMaker::IdMaker() {
  std::random_device device;
  for (uint64_t& word : seed_) word = (uint64_t{device()} << 32) | device();
}

std::string IdMaker::next() {
  const uint64_t number = count_.fetch_add(1, std::memory_order_relaxed);
  char text[40];
  std::snprintf(text, sizeof text, "req-%016llx%016llx",
                static_cast<unsigned long long>(mix(seed_[0] + number * 0x9e3779b97f4a7c15)),
                static_cast<unsigned long long>(mix(seed_[1] ^ number)));
  return text;
}

HttpErrorBody careful(HttpErrorBody inner) {
  return [inner = std::move(inner)](const HttpRequest& head, int status, std::string message) {
    HttpRefusal refusal;
    try {
      if (inner)
        refusal = inner(head, status, message);
      else
        refusal.body = message + "\n";
    } catch (...) {
      refusal = {};
      refusal.body = message + "\n";
    }
    refusal.status = status;
    return refusal;
  };
}

Status check_http_options(const HttpOptions& options) {
  const std::pair<const char*, int64_t> counts[] = {
      {"body_bytes", options.body_bytes},     {"bodies_bytes", options.bodies_bytes},
      {"header_bytes", options.header_bytes}, {"headers", options.headers},
      {"target_bytes", options.target_bytes}, {"connections", options.connections},
      {"stream_bytes", options.stream_bytes}, {"threads", options.threads}};
  for (const auto& [name, value] : counts)
    if (value < 1 || value > int64_t{1} << 40)
      return usage_error(std::string(name) + " of the HTTP server is " + std::to_string(value) +
                         ": a number from 1 on is expected");
  const std::pair<const char*, double> waits[] = {{"header_seconds", options.header_seconds},
                                                  {"body_gap_seconds", options.body_gap_seconds},
                                                  {"write_gap_seconds", options.write_gap_seconds},
                                                  {"idle_seconds", options.idle_seconds}};
  for (const auto& [name, value] : waits)
    if (!(value > 0 && value < 1e6))
      return usage_error(std::string(name) + " of the HTTP server is " + std::to_string(value) +
                         ": seconds above 0 and below 1000000 are expected");
  if (options.threads > 256) return usage_error("the HTTP server runs at most 256 threads");
  return {};
}

}  // namespace hadal::server
