// hadal batch: an OpenAI batch file through the engine, at full batch, to a file of results. A run
// that was cut off goes on where it was: what the results hold is not asked again. What a lost
// device ended is asked once more, and then left to the next run: it is no result.
#include <chrono>
#include <filesystem>
#include <memory>

#include "command.h"
#include "interrupt.h"
#include "serve_flags.h"
#include "server/batch_file.h"
#include "server/call_runner.h"

namespace hadal::app {
namespace {

using namespace hadal::server;  // NOLINT: the rooms that this command joins

struct Options {
  ServeFlags serve;
  std::string file, out;
  bool fresh = false, quiet = false;
};

struct Tally {
  int64_t answered = 0, failed = 0, before = 0;
  int64_t left = 0;  ///< by the machine, to the next run
};

/// Requests that wait for a place beside those that run, so that none is ever empty.
constexpr int64_t kAhead = 8;

class Batch {
 public:
  Batch(const Options& o, Session& session, BatchReader reader, BatchWriter writer, BatchDone done)
      : o_(o),
        reader_(std::move(reader)),
        writer_(std::move(writer)),
        done_(std::move(done)),
        // It is this command that keeps few waiting: nothing of a file is refused for others' sake.
        engine_(session.engine(), {.waiting_requests = INT64_MAX, .waiting_tokens = INT64_MAX / 2}),
        calls_(session, engine_, o.serve.model.path) {}

  Status run(const StopFlag& stop) {
    const auto start = std::chrono::steady_clock::now();
    const auto most = static_cast<size_t>(o_.serve.parallel + kAhead);
    bool more = true;
    while (!stop.set()) {
      const bool away = engine_.snapshot().devices.away;
      while (more && !away && calls_.running() < most && !stop.set()) {
        HADAL_TRY(std::optional<BatchItem> item, reader_.next());
        more = item.has_value();
        if (item) HADAL_TRY(take(*std::move(item)));
      }
      const auto done = calls_.next([&] { return stop.set(); });
      if (!done && (!more || away)) break;
      if (done) HADAL_TRY(write(*done));
    }
    HADAL_TRY(writer_.finish());
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (!o_.quiet) report(seconds);
    if (stop.set())
      return Error{.code = ErrorCode::kInterrupted,
                   .message = "interrupted; the same command goes on where it was"};
    if (tally_.left == 0 && !more) return {};
    return failed(
        fmt::format("requests without an answer: {}{}, since the device failed ({}); the same "
                    "command asks them again",
                    tally_.left, more ? " and all behind them" : "",
                    why_.empty() ? engine_.snapshot().devices.lost : why_));
  }

 private:
  /// A request that runs.
  struct Asked {
    std::string custom_id;
    std::string id = {};  ///< of the response
    Call call = {};
    bool again = false;  ///< the machine failed it once
  };
  static std::string request_id(int64_t line) { return "req_" + std::to_string(line); }

  Status take(BatchItem item) {
    if (done_.has(item)) {
      ++tally_.before;
      return {};
    }
    const int64_t line = item.line;
    Asked asked{.custom_id = item.custom_id};
    if (auto* chat = std::get_if<ChatCall>(&item.request)) {
      asked.id = "chatcmpl-" + std::to_string(line);
      asked.call = std::move(*chat);
    } else if (auto* completion = std::get_if<CompletionCall>(&item.request)) {
      asked.id = "cmpl-" + std::to_string(line);
      asked.call = std::move(*completion);
    } else {
      ++tally_.failed;
      return writer_.write(batch_refusal_line(item, request_id(line)));
    }
    calls_.start(line, asked.call, asked.id);
    asked_.emplace(line, std::move(asked));
    return {};
  }

  Status write(const CallRunner::Done& done) {
    const auto found = asked_.find(done.tag);
    Asked& asked = found->second;
    if (!done.machine.empty()) {
      if (!std::exchange(asked.again, true)) {
        common(asked.call).options.priority = INT32_MIN;  // before those that wait
        calls_.start(done.tag, asked.call, asked.id);
        return {};
      }
      ++tally_.left;
      why_ = done.machine;
      asked_.erase(found);
      return {};
    }
    ++(done.status == 200 ? tally_.answered : tally_.failed);
    const Status written = writer_.write(batch_response_line(done.tag, asked.custom_id, done.status,
                                                             request_id(done.tag), done.body));
    asked_.erase(found);
    return written;
  }

  void report(double seconds) const {
    const EngineThread::Snapshot snapshot = engine_.snapshot();
    const UsageCounts& usage = calls_.usage();
    const auto per_second = [&](int64_t n) {
      return seconds > 0 ? static_cast<double>(n) / seconds : 0;
    };
    print_note(
        fmt::format("[{} answered, {} failed{}{}; {} prompt tokens ({} from the cache), {} new "
                    "tokens in {:.1f} s: {:.1f} tokens/s of prompts, {:.1f} new tokens/s]",
                    tally_.answered, tally_.failed,
                    tally_.left > 0 ? fmt::format(", {} left to the next run", tally_.left) : "",
                    tally_.before > 0 ? fmt::format(", {} done before", tally_.before) : "",
                    usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, seconds,
                    per_second(usage.prompt_tokens), per_second(usage.completion_tokens)));
    const EngineCounts& c = snapshot.counts;
    if (c.drafted_tokens > 0)
      print_note(fmt::format("[{} guessed tokens were verified, {} of them right]",
                             c.drafted_tokens, c.accepted_tokens));
  }

  const Options& o_;
  BatchReader reader_;
  BatchWriter writer_;
  BatchDone done_;
  EngineThread engine_;
  CallRunner calls_;
  std::map<int64_t, Asked> asked_;  ///< by line
  std::string why_;                 ///< of the last that was left
  Tally tally_;
};

Status run(const Options& o) {
  HADAL_TRY(o.serve.model.join());
  const std::filesystem::path out = !o.out.empty() ? std::filesystem::path(o.out)
                                    : o.file == "-"
                                        ? std::filesystem::path()
                                        : std::filesystem::path(o.file + ".results.jsonl");
  if (out.empty())
    return usage_error("--out: name the file of results, as requests come from a pipe");
  HADAL_TRY(BatchReader reader, BatchReader::open(o.file));
  std::error_code error;
  if (o.fresh) std::filesystem::remove(out, error);
  HADAL_TRY(BatchDone done, read_batch_results(out));
  if (!done.note.empty()) print_note(done.note);
  HADAL_TRY(BatchWriter writer, BatchWriter::open(out, done));
  HADAL_TRY(std::unique_ptr<Checkpoint> checkpoint, o.serve.model.open());
  HADAL_TRY(const int64_t limit, model_context(*checkpoint));
  HADAL_TRY(const std::unique_ptr<Session> session,
            Session::open(std::move(checkpoint), o.serve.session(limit), progress_bar()));
  print_notes(session->notes());
  print_notes(session->engine().runner().notes());
  const StopFlag stop;
  Status status;
  {
    Batch batch(o, *session, std::move(reader), std::move(writer), std::move(done));
    status = batch.run(stop);
  }
  session->engine().save_pages();
  if (!o.quiet && status) print_note("results: " + out.string());
  return status;
}

}  // namespace

void add_batch(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand(
      "batch", "answer a file of requests in OpenAI's batch format, many at once");
  o->serve.declare(*c, 0);
  c->add_option(
       "FILE", o->file,
       "requests, a line each: {\"custom_id\", \"method\": \"POST\", \"url\", \"body\"}, of "
       "/v1/chat/completions or\n/v1/completions; -: standard input")
      ->required();
  c->add_option(
      "--out", o->out,
      "the file of results (default: FILE.results.jsonl); what it holds is not asked again");
  c->add_flag("--fresh", o->fresh, "begin anew: results of an earlier run are removed");
  c->add_flag("--quiet", o->quiet, "no closing lines on stderr");
  c->callback([o, &chosen] { chosen = [o](Output&) { return run(*o); }; });
}

}  // namespace hadal::app
