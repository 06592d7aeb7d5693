// hadal logits: the head's fp32 logits at every position of a prompt, as a .npy file [n, rows of
// the head]; or those of drafts.
#include <algorithm>
#include <memory>
#include <optional>
#include <random>

#include "checkpoint/checkpoint.h"
#include "command.h"
#include "engine/engine.h"
#include "npy.h"

namespace hadal::app {
namespace {

struct Options {
  ModelFlags model;
  std::string ids, out, chunk, base, conf;
  int64_t batch = 1, reuse = 0, from = 0, chain = 0;
  bool eager = false, mtp = false, draft = false;
};

/// Runs until nothing is left.
Status drain(Engine& engine) {
  while (!engine.idle()) HADAL_TRY(engine.step());
  return {};
}

/// The other requests of a batch: random prompts and a few generated tokens, so that steps mix
/// prefill and decode.
Status add_neighbours(Engine& engine, int64_t count, int64_t length) {
  std::mt19937 random(20260101);
  for (int64_t i = 0; i < count; ++i) {
    Request other;
    other.reuse_prefix = false;
    const auto n =
        std::max<int64_t>(1, std::min<int64_t>(length, 1 + static_cast<int64_t>(random() % 97)));
    for (int64_t t = 0; t < n; ++t)
      other.prompt.push_back(
          static_cast<TokenId>(random() % static_cast<uint64_t>(engine.spec().vocab_size)));
    other.max_new_tokens = 1 + static_cast<int64_t>(random() % 8);
    // Neighbours have no adapter, or each another one.
    other.adapter =
        static_cast<int32_t>(i % (static_cast<int64_t>(engine.runner().adapters().size()) + 1)) - 1;
    HADAL_TRY(engine.add(std::move(other)));
  }
  return {};
}

/// What does not go together.
Status check(const Options& o, int64_t n) {
  if (n == 0) return usage_error("--ids: at least one id is needed");
  if (o.mtp && o.draft) return usage_error("--mtp and --draft: a model has one of them");
  if (o.mtp && n < 2) return usage_error("--mtp: at least two ids are needed");
  if (o.chain > 0 && !o.mtp) return usage_error("--chain: goes with --mtp");
  if (!o.draft && !(o.base.empty() && o.conf.empty()))
    return usage_error("--base and --conf: go with --draft");
  if (o.reuse >= n && o.reuse > 0)
    return usage_error("--reuse " + std::to_string(o.reuse) + ": fewer than the " +
                       std::to_string(n) + " ids are expected");
  const bool drafts = o.mtp || o.draft;
  if (o.from >= n || (drafts && o.from > 0))
    return usage_error("--from " + std::to_string(o.from) +
                       (drafts ? ": goes with the main model's logits alone"
                               : ": the last position is " + std::to_string(n - 1)));
  return {};
}

Result<std::unique_ptr<Engine>> load(const Options& o, const Checkpoint& checkpoint, int64_t n) {
  // A block of DSpark has at most 64 rows.
  const int64_t behind = std::max<int64_t>(16, o.draft ? 64 : o.chain);
  RunnerOptions runner = o.model.runner(checkpoint, n + behind);
  HADAL_TRY(const int64_t model_limit,
            checkpoint.config().integer("max_position_embeddings", 1, INT32_MAX, INT32_MAX));
  if (!o.model.ctx) {
    if (n + o.chain > model_limit)
      return memory_error("the prompt " +
                          std::string(o.chain > 0 ? "and its drafts have " : "has ") +
                          std::to_string(n + o.chain) + " tokens, the model's limit is " +
                          std::to_string(model_limit));
    runner.context = std::min(runner.context, model_limit);
  }
  runner.max_sequences = o.batch;
  runner.max_tokens = std::min<int64_t>(512, n * o.batch + o.batch);
  runner.max_logit_rows = std::min<int64_t>(64, n) + o.batch;
  runner.eager = o.eager;
  runner.draft = o.mtp || o.draft;
  HADAL_TRY(std::unique_ptr<Engine> engine, Engine::load(checkpoint, runner, progress_bar()));
  print_notes(checkpoint.notes());
  const DraftSpec& draft = engine->spec().draft;
  if (o.mtp && !draft.is_mtp())
    return usage_error("--mtp: the model drafts by DSpark; --draft shows that");
  if (o.draft && !draft.is_dspark())
    return usage_error("--draft: the model drafts by multi-token prediction; --mtp shows that");
  if (const int64_t limit = engine->runner().context(); n + o.chain > limit)
    return memory_error("--chain " + std::to_string(o.chain) + ": " + std::to_string(n) +
                        " ids and their drafts do not fit into the context of " +
                        std::to_string(limit));
  return engine;
}

/// The prefix that is to be reused is run alone and stays in the cache; whole units of it are then
/// taken from there.
Status run_prefix(Engine& engine, const Options& o, const Request& request) {
  Request prefix = request;
  prefix.prompt.resize(static_cast<size_t>(o.reuse));
  prefix.logits_from = std::min(o.from, o.reuse - 1);
  HADAL_TRY(engine.add(std::move(prefix)));
  return drain(engine);
}

/// The logits of every position.
Status write_rows(Engine& engine, const Options& o, Request request) {
  const auto n = static_cast<int64_t>(request.prompt.size());
  HADAL_TRY(NpyWriter out, NpyWriter::create(o.out, engine.spec().vocab_size));
  Status written;
  int64_t next = o.from;
  (o.mtp ? request.on_draft_logits : request.on_logits) = [&](int64_t position,
                                                              std::span<const float> logits) {
    if (position != next || !written) return;  // positions that a reused prefix ran already
    written = out.append(logits);
    ++next;
  };
  if (o.reuse > 0) {
    HADAL_TRY(run_prefix(engine, o, request));
    next = o.reuse / engine.spec().reuse_unit * engine.spec().reuse_unit;
    next = std::max<int64_t>(
        o.from, o.mtp ? next - 1 : next);  // the draft behind a prefix begins one row before
    HADAL_TRY(out.truncate(next - o.from));
  }
  HADAL_TRY(engine.add(std::move(request)));
  HADAL_TRY(add_neighbours(engine, o.batch - 1, n));
  HADAL_TRY(drain(engine));
  HADAL_TRY(std::move(written));
  HADAL_CHECK(next == (o.mtp ? n - 1 : n));
  return out.finish();
}

/// A file that may not be wanted.
Result<std::optional<NpyWriter>> optional_file(const std::string& path, int64_t cols) {
  if (path.empty()) return std::optional<NpyWriter>();
  HADAL_TRY(NpyWriter writer, NpyWriter::create(path, cols));
  return std::optional<NpyWriter>(std::move(writer));
}

/// The logits of a greedy chain of drafts behind the prompt.
Status write_drafts(Engine& engine, const Options& o, Request request) {
  const auto n = static_cast<int64_t>(request.prompt.size());
  const int64_t vocab = engine.spec().vocab_size;
  HADAL_TRY(NpyWriter out, NpyWriter::create(o.out, vocab));
  HADAL_TRY(std::optional<NpyWriter> base, optional_file(o.base, vocab));
  HADAL_TRY(std::optional<NpyWriter> conf, optional_file(o.conf, 0));
  if (o.reuse > 0) HADAL_TRY(run_prefix(engine, o, request));
  Status written;
  int64_t rows = 0;
  const int64_t wanted = o.draft ? engine.spec().draft.block : o.chain;
  request.draft_tokens = wanted;
  request.on_draft = [&](const DraftRow& row) {
    const auto append = [&](NpyWriter& to, std::span<const float> numbers) {
      if (written) written = to.append(numbers);
    };
    append(out, row.logits);
    ++rows;
    if (base) append(*base, row.base);
    if (conf) append(*conf, std::span(&row.confidence, 1));
  };
  HADAL_TRY(engine.add(std::move(request)));
  HADAL_TRY(add_neighbours(engine, o.batch - 1, n));
  HADAL_TRY(drain(engine));
  HADAL_TRY(std::move(written));
  HADAL_CHECK(rows == wanted);
  if (base) HADAL_TRY(base->finish());
  if (conf) HADAL_TRY(conf->finish());
  return out.finish();
}

Status run(const Options& o) {
  HADAL_TRY(o.model.join());
  HADAL_TRY(const std::vector<int64_t> ids, parse_ids(o.ids));
  HADAL_TRY(const std::vector<int64_t> chunks, parse_numbers(o.chunk, "--chunk", 1, INT32_MAX));
  const auto n = static_cast<int64_t>(ids.size());
  HADAL_TRY(check(o, n));
  HADAL_TRY(const std::string adapter, o.model.chosen_adapter());
  HADAL_TRY(const std::unique_ptr<Checkpoint> checkpoint, o.model.open());
  HADAL_TRY(const std::unique_ptr<Engine> engine, load(o, *checkpoint, n));
  Request request;
  request.prompt.assign(ids.begin(), ids.end());
  request.chunks = chunks;
  if (!adapter.empty()) {
    HADAL_TRY(request.adapter, engine->runner().adapter_number(adapter));
  }
  request.reuse_prefix = o.reuse > 0;
  request.logits_from = o.from;
  for (const int64_t id : ids)
    if (id >= engine->spec().vocab_size)
      return usage_error("token id " + std::to_string(id) + " is outside the vocabulary of " +
                         std::to_string(engine->spec().vocab_size));
  return o.draft || o.chain > 0 ? write_drafts(*engine, o, std::move(request))
                                : write_rows(*engine, o, std::move(request));
}

}  // namespace

void add_logits(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<Options>();
  CLI::App* c =
      app.add_subcommand("logits", "write the logits of every prompt position to a .npy file");
  o->model.declare(*c);
  o->model.declare_adapter(*c);
  c->add_option("--ids", o->ids, "the prompt's token ids, commas between; -: from standard input")
      ->required();
  c->add_option("--out", o->out,
                "the .npy file to write: fp32 [ids from --from on, rows of the head]")
      ->required();
  c->add_option("--chunk", o->chunk,
                "cut the prompt: N, or a,b,c (the last repeats); 1: token by token");
  c->add_option("--batch", o->batch, "this request is one of N, the others are random")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  c->add_option("--from", o->from,
                "the first position whose logits are written; rows before may be cheaper")
      ->check(CLI::Range(0, INT32_MAX))
      ->capture_default_str();
  c->add_option("--reuse", o->reuse,
                "run the first K ids first, then reuse them as a cached prefix")
      ->check(CLI::Range(0, INT32_MAX))
      ->capture_default_str();
  c->add_flag("--mtp", o->mtp,
              "of multi-token prediction: row i predicts token i + 2; one row fewer than ids");
  c->add_option("--chain", o->chain,
                "with --mtp: N rows alone, those of a greedy chain of N drafts behind the last id")
      ->check(CLI::Range(1, 64));
  c->add_flag("--draft", o->draft,
              "of DSpark: the rows of a block, the drafts behind the last id, chosen greedily");
  c->add_option("--base", o->base,
                "with --draft: a file for the logits without what the token before adds");
  c->add_option("--conf", o->conf,
                "with --draft: a file for the confidences, that a draft is right if those before "
                "it are");
  c->add_flag("--eager", o->eager, "run operator by operator instead of from the tape");
  c->callback([o, &chosen] { chosen = [o](Output&) { return run(*o); }; });
}

}  // namespace hadal::app
