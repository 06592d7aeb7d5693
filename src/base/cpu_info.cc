#include "base/cpu_info.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <string>

namespace hadal {
namespace {

constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();

/// The first whole number in a file; kNone if there is none ("max", absent).
uint64_t number_in(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  return file >> value ? value : kNone;
}

/// A line "key: 123 kB" of /proc/meminfo in bytes.
uint64_t meminfo(const std::string& key) {
  std::ifstream file("/proc/meminfo");
  std::string word;
  uint64_t kib = 0;
  while (file >> word)
    if (word == key && file >> kib) return kib * 1024;
  return kNone;
}

/// Path of this process's cgroup under /sys/fs/cgroup: v2, then the v1 controller of that name.
std::string cgroup_path(const std::string& controller) {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1),
                      path = line.substr(second + 1);
    if (names.empty() && controller.empty()) return "/sys/fs/cgroup" + path;
    if (!controller.empty() &&
        ("," + names + ",").find("," + controller + ",") != std::string::npos)
      return "/sys/fs/cgroup/" + controller + path;
  }
  return "";
}

/// The least of `limit(dir)` over a cgroup and its parents up to the mount.
template <typename Limit>
uint64_t least_up(std::string dir, Limit limit) {
  uint64_t least = kNone;
  while (dir.size() > std::string("/sys/fs/cgroup").size()) {
    least = std::min(least, limit(dir));
    dir.resize(dir.rfind('/'));
  }
  return std::min(least, limit(std::string("/sys/fs/cgroup")));
}

/// A line "key value" of a memory.stat; 0 if it is not there.
uint64_t stat_value(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string word;
  uint64_t value = 0;
  while (file >> word >> value)
    if (word == key) return value;
  return 0;
}

/// What is left under a limit. The page cache counts as use there, but is given up when memory is
/// asked for.
uint64_t left_of(uint64_t limit, uint64_t use, uint64_t page_cache) {
  if (limit == kNone || use == kNone) return limit;
  use -= std::min(use, page_cache);
  return use > limit ? 0 : limit - use;
}

}  // namespace

uint64_t available_memory() {
  uint64_t least = meminfo("MemAvailable:");
  least = std::min(least, least_up(cgroup_path(""), [](const std::string& d) {
                     return left_of(number_in(d + "/memory.max"), number_in(d + "/memory.current"),
                                    stat_value(d + "/memory.stat", "file"));
                   }));
  least = std::min(least, least_up(cgroup_path("memory"), [](const std::string& d) {
                     return left_of(number_in(d + "/memory.limit_in_bytes"),
                                    number_in(d + "/memory.usage_in_bytes"),
                                    stat_value(d + "/memory.stat", "total_cache"));
                   }));
  return least;
}

std::optional<uint64_t> cgroup_threads() {
  const auto limit = [](const std::string& d) { return number_in(d + "/pids.max"); };
  const uint64_t least =
      std::min(least_up(cgroup_path(""), limit), least_up(cgroup_path("pids"), limit));
  return least == kNone ? std::nullopt : std::optional(least);
}

int32_t available_processors() {
  int32_t count = static_cast<int32_t>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof mask, &mask) == 0)
    count = std::min(count, std::max(1, CPU_COUNT(&mask)));
  const auto quota = [](const std::string& quota_file, const std::string& period_file) -> uint64_t {
    // v2: "max 100000" or "200000 100000" in one file; v1: two files, -1 for none.
    std::ifstream file(quota_file);
    double allowed = 0, period = 0;
    if (!(file >> allowed) || allowed <= 0) return kNone;
    if (period_file.empty() ? !(file >> period) : !(std::ifstream(period_file) >> period))
      return kNone;
    return period > 0 ? static_cast<uint64_t>(std::max(1.0, std::ceil(allowed / period))) : kNone;
  };
  const uint64_t v2 =
      least_up(cgroup_path(""), [&](const std::string& d) { return quota(d + "/cpu.max", ""); });
  const uint64_t v1 = least_up(cgroup_path("cpu"), [&](const std::string& d) {
    return quota(d + "/cpu.cfs_quota_us", d + "/cpu.cfs_period_us");
  });
  const uint64_t least = std::min(v1, v2);
  return least < static_cast<uint64_t>(count) ? static_cast<int32_t>(least) : count;
}

}  // namespace hadal
