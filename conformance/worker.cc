#include "worker.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <optional>

#include "contract/operators.h"
#include "speed.h"

#ifdef __linux__
#include <sys/prctl.h>
#endif

extern char** environ;

namespace hadal::conformance {
namespace {

constexpr int kWorkerPipe = 3;  // the worker's end
constexpr int kRestarts = 3;    // of a unit that broke off
constexpr const char* kOpen = "open";
constexpr const char* kReal = "real";

uint32_t operator_of(const std::string& name) {
  for (uint32_t id = 1; id < 64; ++id)
    if (contract::operand_count(id) != 0 && name == contract::op_name(id)) return id;
  return HADAL_OP_NONE;
}

Json describe(const Chip& chip) {
  const hadal_device_info& info = chip.info;
  return {{"name", chip.table.name},
          {"device", info.name},
          {"contract", fmt::format("{}.{}", chip.table.abi >> 16, chip.table.abi & 0xffffu)},
          {"kernels", info.kernels},
          {"kernels_version", info.kernels_version},
          {"all_kernels", info.all_kernels},
          {"instruction_sets", info.instruction_sets},
          {"row_invariant", info.row_invariant != 0},
          {"host_memory", info.host_memory != 0},
          {"alignment", info.alignment},
          {"memory_bytes", info.memory_total},
          {"largest_allocation", info.largest_allocation},
          {"tables", Json({{"program", chip.table.program != nullptr},
                           {"profile", chip.table.profile != nullptr},
                           {"events", chip.is_1_1() && chip.table.events != nullptr},
                           {"comm", chip.is_1_1() && chip.table.comm != nullptr}})}};
}

void run_level(const Unit& unit, Chip& chip, Chip& ref, const Options& options, Report& report) {
  if (unit.level == "loads") level_loads(chip, report);
  if (unit.level == "operators") level_operator(chip, ref, operator_of(unit.part), options, report);
  if (unit.level == "errors") level_errors(chip, operator_of(unit.part), options, report);
  if (unit.level == "queues") level_queues(chip, report);
  if (unit.level == "models") level_models(chip, ref, unit.part, options, report);
  if (unit.level == "speed") level_speed(chip, unit.part, options, report);
}

/// Opens both chips, runs the unit, closes them. Returns why the chip does not open, or nothing.
std::string run_opened(const Unit& unit, const Options& options, Report& report, Json* said) {
  Chip ref, chip;
  if (std::string why = chip.open(options.chip, options.wishes()); !why.empty()) return why;
  if (said) *said = describe(chip);
  if (unit.level == kOpen) return {};
  if (std::string why = ref.open("ref", {}); !why.empty()) return why;
  // The oracle's planes are rows side by side, whatever a chip under test makes of them.
  ref.table.plane_bytes = nullptr;
  run_level(unit, chip, ref, options, report);
  report.phase(unit.part.empty() ? unit.level : unit.part, "the device is closed");
  return {};
}

// ---- the process that asks

std::string signal_text(int number) {
  switch (number) {
    case SIGSEGV:
      return "SIGSEGV";
    case SIGABRT:
      return "SIGABRT";
    case SIGBUS:
      return "SIGBUS";
    case SIGFPE:
      return "SIGFPE";
    case SIGILL:
      return "SIGILL";
    case SIGKILL:
      return "SIGKILL";
    case SIGTERM:
      return "SIGTERM";
    default:
      return fmt::format("signal {}", number);
  }
}

std::vector<std::string> arguments_of_hadal(const Unit& unit, const Options& o) {
  std::vector<std::string> args = {"hadal",   "chip",     "distance",
                                   unit.part, "--events", "--chip",
                                   o.chip,    "--device", std::to_string(o.device)};
  if (!o.kernels.empty()) args.insert(args.end(), {"--kernels", o.kernels});
  if (!o.numerics.empty()) args.insert(args.end(), {"--numerics", o.numerics});
  for (const std::string& option : o.chip_options)
    args.insert(args.end(), {"--chip-option", option});
  args.insert(args.end(), o.real.words.begin(), o.real.words.end());
  return args;
}

std::vector<std::string> arguments(const Unit& unit, const Options& o, int64_t first) {
  if (unit.level == kReal) return arguments_of_hadal(unit, o);
  std::vector<std::string> args = {
      "hadal-conformance",   "--chip", o.chip, "--device", std::to_string(o.device), "--seed",
      std::to_string(o.seed)};
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) args.insert(args.end(), {name, value});
  };
  add("--kernels", o.kernels);
  add("--numerics", o.numerics);
  for (const std::string& option : o.chip_options) add("--chip-option", option);
  add("--worker", unit.level);
  add("--worker-part", unit.part);
  add("--worker-first", std::to_string(first));
  if (o.quick) args.emplace_back("--quick");
  if (o.light) args.emplace_back("--light");
  return args;
}

/// One worker from its start to its end.
class Process {
 public:
  Process(const Unit& unit, const Options& options, int64_t first) {
    int ends[2] = {-1, -1};
    if (::pipe2(ends, O_CLOEXEC) != 0) return;
    const int high = ::fcntl(ends[1], F_DUPFD_CLOEXEC, 16);
    ::close(ends[1]);
    pipe_ = ends[0];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, 2, 1);  // what a chip prints is no result
    posix_spawn_file_actions_adddup2(&actions, high, kWorkerPipe);
    std::vector<std::string> args = arguments(unit, options, first);
    std::vector<char*> raw;
    for (std::string& a : args) raw.push_back(a.data());
    raw.push_back(nullptr);
    const char* program = unit.level == kReal ? options.real.hadal.c_str() : "/proc/self/exe";
    started_ = ::posix_spawn(&pid_, program, &actions, nullptr, raw.data(), environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    ::close(high);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (pipe_ >= 0) ::close(pipe_);
    if (started_ && !reaped_) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  /// The next event; none: the worker ended, or said nothing for so long.
  std::optional<Json> next(double limit_seconds) {
    while (started_) {
      if (const size_t end = buffer_.find('\n'); end != std::string::npos) {
        Json event = Json::parse(buffer_.substr(0, end), nullptr, false);
        buffer_.erase(0, end + 1);
        if (event.is_object()) return event;
        continue;
      }
      pollfd wait{pipe_, POLLIN, 0};
      const int ready = ::poll(&wait, 1, static_cast<int>(limit_seconds * 1000));
      if (ready < 0 && errno == EINTR) continue;
      if (ready == 0) late_ = true;
      if (ready <= 0) return std::nullopt;
      char bytes[16384];
      const ssize_t got = ::read(pipe_, bytes, sizeof bytes);
      if (got <= 0) return std::nullopt;
      buffer_.append(bytes, static_cast<size_t>(got));
    }
    return std::nullopt;
  }

  /// How it ended.
  std::string end(double limit_seconds) {
    if (!started_) return "a worker cannot be started: " + std::string(std::strerror(errno));
    if (!late_ && !wait_for(limit_seconds)) late_ = true;
    if (late_) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, &status_, 0);
      reaped_ = true;
      return fmt::format("no progress for {:g} s; the worker was killed (see --timeout)",
                         limit_seconds);
    }
    if (WIFSIGNALED(status_)) return "the process ended by " + signal_text(WTERMSIG(status_));
    return fmt::format("the process ended with exit status {}", WEXITSTATUS(status_));
  }

 private:
  bool wait_for(double seconds) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (std::chrono::steady_clock::now() < until) {
      const pid_t ended = ::waitpid(pid_, &status_, WNOHANG);
      if (ended == pid_) return reaped_ = true;
      ::usleep(500);
    }
    return false;
  }

  pid_t pid_ = -1;
  int pipe_ = -1;
  bool started_ = false, reaped_ = false, late_ = false;
  int status_ = 0;
  std::string buffer_;
};

/// What a worker said so far.
struct Heard {
  bool done = false;
  int64_t at = -1;  // the case that runs
  std::string name, text, error;
  std::map<std::string, Line> counts;
  Json chip;

  void take(const Json& event, Report& report) {
    const auto text_of = [&](const char* key) { return event.value(key, std::string()); };
    if (event.contains("begin")) {
      name = text_of("begin");
      text = text_of("text");
      at = event.value("at", int64_t{-1});
    } else if (event.contains("fail")) {
      report.fail(text_of("fail"), text_of("text"));
    } else if (event.contains("note")) {
      report.note(text_of("note"), text_of("text"));
    } else if (event.contains("line")) {
      counts[text_of("line")] = line_from_json(event["counts"]);
      report.line(text_of("line"));
    } else if (event.contains("chip")) {
      chip = event["chip"];
    } else if (event.contains("error")) {
      error = text_of("error");
    } else if (event.contains("done")) {
      done = true;
    }
  }
};

/// Runs one worker. Returns how it broke off, or nothing.
std::string listen(const Unit& unit, const Options& options, const Isolation& isolation,
                   int64_t first, Report& report, Heard& heard) {
  Process process(unit, options, first);
  while (const std::optional<Json> event = process.next(isolation.limit_seconds))
    heard.take(*event, report);
  const std::string how = process.end(isolation.limit_seconds);
  for (const auto& [name, counts] : heard.counts) report.add(name, counts);
  return heard.done || !heard.error.empty() ? "" : how;
}

}  // namespace

std::string ask_chip(const Options& options, const Isolation& isolation, Json& chip) {
  Report none(kOpen, false);
  if (isolation.in_process) return run_opened({kOpen, ""}, options, none, &chip);
  Heard heard;
  const std::string how = listen({kOpen, ""}, options, isolation, 0, none, heard);
  chip = heard.chip;
  if (!heard.error.empty()) return heard.error;
  return how.empty() ? "" : options.chip + " does not open and close: " + how;
}

std::string run_unit(const Unit& unit, const Options& options, const Isolation& isolation,
                     Report& report) {
  report.enter(unit.level);
  if (isolation.in_process && unit.level != kReal) {
    if (const std::string why = run_opened(unit, options, report, nullptr); !why.empty())
      report.fail(unit.level, why);
    return {};
  }
  int64_t first = 0;
  for (int start = 0; start <= kRestarts && !report.enough(); ++start) {
    Heard heard;
    const std::string how = listen(unit, options, isolation, first, report, heard);
    if (!heard.error.empty() && unit.level == kReal) return heard.error;
    if (!heard.error.empty())
      report.fail(unit.level, "the chip does not open again: " + heard.error);
    if (how.empty()) return {};
    const std::string name = heard.name.empty() ? unit.level : heard.name;
    ++report.line(name).cases;
    const std::string text =
        (heard.text.empty() ? "before the first case" : heard.text) + ": " + how;
    if (unit.level == "errors")
      report.note(name, text);  // a chip need not check indices: judge_errors
    else
      report.fail(name, text);
    if (heard.at < first) return {};  // it broke before its first case, or when all were done
    first = heard.at + 1;
  }
  if (!report.enough())
    report.fail(unit.level, fmt::format("{} {}: broke off {} times; what stands behind was not run",
                                        unit.level, unit.part, kRestarts + 1));
  return {};
}

int work(const Unit& unit, const Options& options, int64_t first, int fd) {
#ifdef __linux__
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  const auto send = [fd](const Json& event) {
    const std::string line = event.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    for (size_t sent = 0; sent < line.size();) {
      const ssize_t n = ::write(fd, line.data() + sent, line.size() - sent);
      if (n < 0 && errno != EINTR) std::_Exit(3);  // nobody listens any more
      if (n > 0) sent += static_cast<size_t>(n);
    }
  };
  Report report(unit.level, options.quick, send, first);
  Json said;
  std::string why;
  try {
    why = run_opened(unit, options, report, &said);
  } catch (const std::exception& e) {
    report.fail(unit.part.empty() ? unit.level : unit.part, e.what());
  }
  report.flush();
  if (unit.level == kOpen && !said.is_null()) send({{"chip", said}});
  if (!why.empty()) send({{"error", why}});
  send({{"done", true}});
  return why.empty() ? 0 : 2;
}

}  // namespace hadal::conformance
