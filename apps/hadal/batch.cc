// hadal batch: an OpenAI batch file through the engine, at full batch, to a file of results. A run
// that was cut off goes on where it was: what the results hold is not asked again.
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
      while (more && calls_.running() < most && !stop.set()) {
        HADAL_TRY(std::optional<BatchItem> item, reader_.next());
        more = item.has_value();
        if (item) HADAL_TRY(take(*std::move(item)));
      }
      const auto done = calls_.next([&] { return stop.set(); });
      if (!done && !more) break;
      if (done) HADAL_TRY(write(*done));
    }
    HADAL_TRY(writer_.finish());
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (!o_.quiet) report(seconds);
    if (stop.set())
      return Error{.code = ErrorCode::kInterrupted,
                   .message = "interrupted; the same command goes on where it was"};
    return {};
  }

 private:
  static std::string request_id(int64_t line) { return "req_" + std::to_string(line); }

  Status take(BatchItem item) {
    if (done_.has(item)) {
      ++tally_.before;
      return {};
    }
    const int64_t line = item.line;
    if (auto* chat = std::get_if<ChatCall>(&item.request)) {
      ids_[line] = item.custom_id;
      calls_.start(line, std::move(*chat), "chatcmpl-" + std::to_string(line));
    } else if (auto* completion = std::get_if<CompletionCall>(&item.request)) {
      ids_[line] = item.custom_id;
      calls_.start(line, std::move(*completion), "cmpl-" + std::to_string(line));
    } else {
      ++tally_.failed;
      return writer_.write(batch_refusal_line(item, request_id(line)));
    }
    return {};
  }

  Status write(const CallRunner::Done& done) {
    ++(done.status == 200 ? tally_.answered : tally_.failed);
    const auto id = ids_.find(done.tag);
    const Status written = writer_.write(
        batch_response_line(done.tag, id->second, done.status, request_id(done.tag), done.body));
    ids_.erase(id);
    return written;
  }

  void report(double seconds) const {
    const EngineThread::Snapshot snapshot = engine_.snapshot();
    const UsageCounts& usage = calls_.usage();
    const auto per_second = [&](int64_t n) {
      return seconds > 0 ? static_cast<double>(n) / seconds : 0;
    };
    print_note(fmt::format(
        "[{} answered, {} failed{}; {} prompt tokens ({} from the cache), {} new tokens in {:.1f} "
        "s: {:.1f} tokens/s of prompts, {:.1f} new tokens/s]",
        tally_.answered, tally_.failed,
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
  std::map<int64_t, std::string> ids_;  ///< custom ids of the lines that run
  Tally tally_;
};

Status run(const Options& o) {
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
