#include "session/session.h"

#include <algorithm>

#include "session/vocabulary.h"

namespace hadal {
namespace {

/// The least context that is worth opening a model for when memory does not hold its limit.
constexpr int64_t kLeastContext = 512;

/// Opens the runner again with a smaller cache where the free memory does not hold every context.
Status fit_cache(const Checkpoint& checkpoint, const SessionOptions& options,
                 std::unique_ptr<ModelRunner>& runner) {
  RunnerOptions smaller = options.runner;
  for (const MemoryPlan& m : runner->memory_plans()) {
    const uint64_t fixed = m.total() - m.cache + m.cache_kept;
    // What the machine needs for other things.
    const uint64_t free = m.available - m.available / 8;
    if (m.total() <= free || m.cache_per_token == 0) continue;
    int64_t tokens =
        free > fixed ? static_cast<int64_t>((free - fixed) / m.cache_per_token) / 64 * 64 : 0;
    tokens = std::max(tokens, std::min(runner->context(), kLeastContext));
    if (smaller.cache_tokens == 0 || tokens < smaller.cache_tokens) smaller.cache_tokens = tokens;
  }
  if (smaller.cache_tokens == options.runner.cache_tokens) return {};
  HADAL_TRY(runner, ModelRunner::open(checkpoint, smaller));
  return {};
}

/// Opens and loads an engine.
Result<std::unique_ptr<Engine>> load_engine(const Checkpoint& checkpoint,
                                            const SessionOptions& options,
                                            const LoadProgress& progress,
                                            std::vector<std::string>& notes) {
  HADAL_TRY(std::unique_ptr<ModelRunner> runner, open_runner(checkpoint, options, notes));
  HADAL_TRY(runner->load(progress));
  auto engine = std::make_unique<Engine>(std::move(runner), options.engine);
  if (!options.swap.file.empty()) HADAL_TRY(engine->swap_to(options.swap));
  return engine;
}

}  // namespace

Result<const ChatFormat*> choose_chat_format(const std::optional<std::string>& name,
                                             const Checkpoint& checkpoint) {
  if (name) {
    if (const ChatFormat* format = find_chat_format(*name)) return format;
    std::string known;
    for (const ChatFormat& f : chat_formats())
      known += (known.empty() ? "" : ", ") + std::string(f.name);
    return usage_error("chat format '" + *name + "' is unknown; known are " + known);
  }
  HADAL_TRY(const std::string type, checkpoint.config().text("model_type", ""));
  return detect_chat_format(checkpoint.tokenizer(), type);
}

Result<int64_t> model_context(const Checkpoint& checkpoint) {
  return checkpoint.config().integer("max_position_embeddings", 1, INT32_MAX, INT32_MAX);
}

Result<std::unique_ptr<ModelRunner>> open_runner(const Checkpoint& checkpoint,
                                                 const SessionOptions& options,
                                                 std::vector<std::string>& notes) {
  HADAL_TRY(std::unique_ptr<ModelRunner> runner, ModelRunner::open(checkpoint, options.runner));
  if (options.runner.draft && runner->spec().draft.kind == DraftSpec::Kind::kNone)
    return usage_error(checkpoint.path().string() +
                       ": has no layers for drafts (multi-token prediction, DSpark); leave --draft "
                       "out");
  if (options.fit_cache) HADAL_TRY(fit_cache(checkpoint, options, runner));
  if (options.fit_context) {
    if (const Status fits = runner->check_memory(); !fits &&
                                                    fits.error().setting == Setting::kContext &&
                                                    fits.error().suggestion >= kLeastContext) {
      RunnerOptions smaller = options.runner;
      smaller.context = fits.error().suggestion;
      HADAL_TRY(runner, ModelRunner::open(checkpoint, smaller));
      notes.push_back("memory holds a context of " + std::to_string(smaller.context) +
                      " tokens; the model's limit is " +
                      std::to_string(runner->spec().max_position_embeddings));
    }
  }
  if (const auto disk = runner->from_disk(0)) notes.push_back(disk->text());
  return runner;
}

Result<std::unique_ptr<Session>> Session::open(std::unique_ptr<Checkpoint> checkpoint,
                                               const SessionOptions& options,
                                               const LoadProgress& progress) {
  std::unique_ptr<Session> session(new Session);
  session->checkpoint_ = std::move(checkpoint);
  const Checkpoint& c = *session->checkpoint_;
  if (!c.tokenizer().empty()) {
    auto tokenizer = Tokenizer::create(c.tokenizer(), c.path().string());
    if (!tokenizer && options.needs_tokenizer) return std::move(tokenizer).error();
    if (tokenizer) {
      session->tokenizer_ = *std::move(tokenizer);
      session->format_ = choose_chat_format(options.chat_format, c);
      // One that was named must exist; one that is not recognised matters to chats alone.
      if (options.chat_format && !*session->format_) return session->format_->error();
    }
  }
  SessionOptions complete = options;
  complete.runner.compressed_vocabulary = [opened =
                                               session.get()]() -> Result<CompressedVocabulary> {
    if (opened->tokenizer_) return compressed_vocabulary(*opened->tokenizer_);
    return compressed_vocabulary(*opened->checkpoint_);
  };
  session->prompt_lookup_ = options.prompt_lookup;
  HADAL_TRY(session->engine_, load_engine(c, complete, progress, session->memory_notes_));
  return session;
}

std::vector<std::string> Session::notes() const {
  std::vector<std::string> notes = checkpoint_->notes();
  notes.insert(notes.end(), memory_notes_.begin(), memory_notes_.end());
  if (tokenizer_) notes.insert(notes.end(), tokenizer_->notes().begin(), tokenizer_->notes().end());
  return notes;
}

Result<const ChatFormat*> Session::chat_format() const {
  if (format_) return *format_;
  return failed(checkpoint_->path().string() + ": has no tokenizer to be used, so no chat format");
}

std::string fingerprint_of(const Digest& identity) { return "hadal-" + hex(identity, 8); }

Result<Answer> Session::answer(PreparedRequest prepared, const OnDelta& on_delta) {
  HADAL_CHECK(prepared.answers.size() == 1);
  AnswerBuilder& builder = prepared.answers[0];
  bool wanted = true;
  const auto give = [&](const OutputDelta& delta) { wanted = wanted && on_delta(delta); };
  engine_->runner().clear_interrupt();  // one that came after the last answer was over
  HADAL_TRY(const SeqId id, engine_->add(std::move(prepared.request)));
  while (!builder.over()) {
    auto events = engine_->step();
    if (!events) {
      engine_->cancel(id);
      if (events.error().code != ErrorCode::kInterrupted) return std::move(events).error();
      engine_->runner().clear_interrupt();
      builder.stop(AnswerEnd::kInterrupted);
      break;
    }
    for (const TokenEvent& event : *events) {
      if (event.seq != id || builder.over()) continue;
      const OutputDelta delta = builder.push(event);
      if (builder.error()) return *builder.error();
      if (event.token >= 0) give(delta);
      const bool goes_on = event.finish == FinishReason::kNone;
      if (!wanted && goes_on) builder.stop(AnswerEnd::kStop);
      if (goes_on && builder.over()) engine_->cancel(id);
    }
  }
  const OutputDelta last = builder.finish();
  if (wanted) give(last);
  return builder.take();
}

}  // namespace hadal
