// What `hadal doctor` looks at in the machine itself: program, processor, memory, limits, clock.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <sstream>

#include "base/text.h"
#include "doctor.h"
#include "hadal/chip.h"
#include "hadal/version.h"

namespace hadal::app {
namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;
constexpr uint64_t kWantedThreads = 256;  ///< of serve: workers, connections, journals
constexpr uint64_t kWantedFiles = 1024;   ///< a connection each, and the model's files
constexpr uint64_t kWantedLocked = 64ULL << 20;
constexpr double kLeastMemory = 1 * kGiB;  ///< of which a small model with its cache runs
constexpr int64_t kYear2025 = 1735689600;

/// How a limit of the process's container or service is lifted, in the words of what set it; empty
/// where only the owner of the cluster can.
std::string lift(const Machine& m, const std::string& docker, const std::string& property,
                 const std::string& kubernetes) {
  const std::string group = m.line_of("/proc/self/cgroup");
  if (group.find("kubepods") != std::string::npos)
    return kubernetes.empty() ? "" : "kubectl set resources deployment NAME --limits=" + kubernetes;
  std::error_code unused;
  if (std::filesystem::exists(m.at("/.dockerenv"), unused))
    return "docker update " + docker + " " + shell_word(m.line_of("/etc/hostname"));
  const std::string unit = group.substr(group.rfind('/') + 1);
  return "sudo systemctl set-property " + (unit.empty() ? "UNIT" : shell_word(unit)) + " " +
         property;
}

void check_program(const Machine& m, Findings& out) {
  out.push_back(
      {.check = "program",
       .label = Message::kProgram,
       .text = Message::kProgramText,
       .arguments = {HADAL_VERSION, fmt::format("{}.{}", HADAL_ABI_MAJOR, HADAL_ABI_MINOR)}});
  Finding f{.check = "library", .label = Message::kLibrary, .text = Message::kLibraryNone};
  if (m.library_version == HADAL_VERSION) {
    f.text = Message::kLibraryText;
    f.arguments = {m.library_version};
  } else if (!m.library_version.empty()) {
    f.verdict = Verdict::kWrong;
    f.text = Message::kLibraryOther;
    f.arguments = {m.library_version, HADAL_VERSION};
    f.command = "make release";
  }
  out.push_back(std::move(f));
}

/// Those of `wanted` that are no words of `flags`.
std::string lacking(const std::string& flags, std::initializer_list<const char*> wanted) {
  std::string names;
  for (const char* name : wanted)
    if ((" " + flags + " ").find(std::string(" ") + name + " ") == std::string::npos)
      names += (names.empty() ? "" : " ") + std::string(name);
  return names;
}

void check_processor(const Machine& m, const ChipFacts& cpu, Findings& out) {
  Finding f{.check = "processor", .label = Message::kProcessor, .needed = true};
  const char* info = "/proc/cpuinfo";
  const std::string flags = m.value_of(info, "flags"), model = m.value_of(info, "model name");
  const std::string name = model.empty() ? "cpu" : model;
  const std::string missing = lacking(flags, {"avx2", "fma", "f16c"});
  if (!cpu.fault.empty()) {
    f.verdict = Verdict::kWrong;
    f.text = Message::kProcessorNone;
    f.arguments = {cpu.fault};
  } else if (!flags.empty() && !missing.empty()) {  // an x86
    f.needed = false;
    f.verdict = Verdict::kMissing;
    const bool guest = lacking(flags, {"hypervisor"}).empty();
    f.text = guest ? Message::kProcessorHidden : Message::kProcessorOld;
    f.arguments = {name, missing};
    if (guest) f.command = "virt-xml DOMAIN --edit --cpu host-passthrough";
  } else {
    f.text = cpu.instruction_sets.empty() ? Message::kProcessorPlain : Message::kProcessorText;
    f.arguments = {name, cpu.kernels};
    if (!cpu.instruction_sets.empty()) f.arguments.push_back(cpu.instruction_sets);
  }
  out.push_back(std::move(f));
}

/// Numbers in a list like "0-3,8".
int32_t numbers_in(const std::string& list) {
  int32_t count = 0;
  std::istringstream parts(list);
  for (std::string part; std::getline(parts, part, ',');) {
    int low = 0, high = 0;
    const int read = std::sscanf(part.c_str(), "%d-%d", &low, &high);
    count += read == 2 ? high - low + 1 : read;
  }
  return count;
}

void check_cores(const Machine& m, Findings& out) {
  const int32_t all = std::max(m.count_of("/proc/cpuinfo", "processor\t"), m.processors);
  const std::string bound = m.value_of("/proc/self/status", "Cpus_allowed_list");
  Finding f{.check = "processors",
            .label = Message::kCores,
            .text = Message::kCoresText,
            .arguments = {fmt::to_string(m.processors)}};
  if (m.processors < all) {
    f.verdict = Verdict::kWrong;
    const bool affinity = !bound.empty() && numbers_in(bound) <= m.processors;
    f.text = affinity ? Message::kCoresAffinity : Message::kCoresQuota;
    f.arguments.push_back(fmt::to_string(all));
    f.command =
        affinity ? fmt::format("taskset -cp 0-{} $$", all - 1)
                 : lift(m, fmt::format("--cpus {}", all), "CPUQuota=", fmt::format("cpu={}", all));
  }
  out.push_back(std::move(f));
  Finding threads{.check = "threads", .label = Message::kThreadLimit};
  if (!m.threads) {
    threads.text = Message::kThreadLimitNone;
  } else if (*m.threads >= kWantedThreads) {
    threads.text = Message::kThreadLimitText;
    threads.arguments = {fmt::to_string(*m.threads)};
  } else {
    threads.verdict = Verdict::kWrong;
    threads.text = Message::kThreadLimitLow;
    threads.arguments = {fmt::to_string(*m.threads), fmt::to_string(kWantedThreads)};
    threads.command = lift(m, "--pids-limit -1", "TasksMax=infinity", "");
  }
  out.push_back(std::move(threads));
}

/// A line "key: 123 kB" of /proc/meminfo in bytes.
double meminfo(const Machine& m, const char* key) {
  return 1024 * std::strtod(m.value_of("/proc/meminfo", key).c_str(), nullptr);
}

void check_memory(const Machine& m, Findings& out) {
  const auto gib = [](double bytes) { return fmt::format("{:.1f}", bytes / kGiB); };
  const double all = meminfo(m, "MemTotal"), free = meminfo(m, "MemAvailable");
  const auto available = static_cast<double>(m.memory_available);
  Finding f{.check = "memory",
            .label = Message::kMemory,
            .text = Message::kMemoryFree,
            .arguments = {gib(available), gib(all)}};
  // Between two readings something else may have taken a little.
  if (available < free * 0.9) {
    f.verdict = Verdict::kWrong;
    f.text = Message::kMemoryLimited;
    f.arguments = {gib(available), gib(free)};
    f.command = lift(m, fmt::format("--memory {:.0f}g --memory-swap -1", std::ceil(all / kGiB)),
                     "MemoryMax=infinity", "memory=64Gi");
  } else if (available < kLeastMemory) {
    f.verdict = Verdict::kWrong;
    f.text = Message::kMemoryLow;
    f.command = "ps aux --sort -rss | head";
  }
  out.push_back(std::move(f));

  const char* file = "/sys/kernel/mm/transparent_hugepage/enabled";
  const std::string huge = m.line_of(file);
  const size_t open = huge.find('['), close = huge.find(']');
  Finding pages{
      .check = "huge_pages", .label = Message::kHugePages, .text = Message::kHugePagesNone};
  if (open != std::string::npos && close != std::string::npos && open < close) {
    const std::string mode = huge.substr(open + 1, close - open - 1);
    pages.text = mode == "never" ? Message::kHugePagesOff : Message::kHugePagesOk;
    if (mode == "never") {
      pages.verdict = Verdict::kWrong;
      pages.command = fmt::format("echo madvise | sudo tee {}", file);
    } else {
      pages.arguments = {mode};
    }
  }
  out.push_back(std::move(pages));
}

void check_limits(const Machine& m, Findings& out) {
  const bool any = m.locked_memory == Machine::kUnlimited;
  // Only the drivers of AMD's and Hygon's cards and of InfiniBand lock much.
  const bool wanted =
      !m.files_in("/dev", "kfd").empty() || !m.files_in("/dev", "infiniband").empty();
  const bool low = wanted && m.locked_memory < kWantedLocked;
  out.push_back({.check = "locked_memory",
                 .label = Message::kLocked,
                 .verdict = low ? Verdict::kWrong : Verdict::kOk,
                 .text = any   ? Message::kLockedAny
                         : low ? Message::kLockedLow
                               : Message::kLockedText,
                 .arguments = {fmt::format("{} KiB", m.locked_memory >> 10)},
                 .command = low ? "sudo prlimit --memlock=unlimited --pid $$" : ""});
  const bool few = m.open_files < kWantedFiles;
  out.push_back({.check = "open_files",
                 .label = Message::kFiles,
                 .verdict = few ? Verdict::kWrong : Verdict::kOk,
                 .text = m.open_files == Machine::kUnlimited ? Message::kFilesAny
                         : few                               ? Message::kFilesLow
                                                             : Message::kFilesText,
                 .arguments = {fmt::to_string(m.open_files)},
                 .command = few ? fmt::format("ulimit -n {}", 4 * kWantedFiles) : ""});
  const std::time_t now = static_cast<std::time_t>(m.seconds_since_1970);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  const bool past = m.seconds_since_1970 < kYear2025;
  out.push_back({.check = "clock",
                 .label = Message::kClock,
                 .verdict = past ? Verdict::kWrong : Verdict::kOk,
                 .text = past ? Message::kClockWrong : Message::kClockText,
                 .arguments = {fmt::format("{}-{:02}-{:02} {:02}:{:02} UTC", utc.tm_year + 1900,
                                           utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min)},
                 .command = past ? "sudo timedatectl set-ntp true" : ""});
}

}  // namespace

Findings check_machine(const Machine& machine, const ChipFacts& cpu) {
  Findings out;
  check_program(machine, out);
  check_processor(machine, cpu, out);
  check_cores(machine, out);
  check_memory(machine, out);
  check_limits(machine, out);
  return out;
}

size_t count_needed(const Findings& findings) {
  return static_cast<size_t>(std::count_if(findings.begin(), findings.end(), [](const Finding& f) {
    return f.needed && f.verdict != Verdict::kOk;
  }));
}

}  // namespace hadal::app
