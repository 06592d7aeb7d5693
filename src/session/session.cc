#include "session/session.h"

#include <algorithm>
#include <chrono>

#include "session/vocabulary.h"

namespace hadal {
namespace {

/// The least context that is worth opening a model for when memory does not hold its limit.
constexpr int64_t kLeastContext = 512;

/// Opens and loads an engine; where memory does not hold the context and the caller named none,
/// with the longest that it holds.
Result<std::unique_ptr<Engine>> load_engine(const Checkpoint& checkpoint,
                                            const SessionOptions& options,
                                            const LoadProgress& progress,
                                            std::vector<std::string>& notes) {
  HADAL_TRY(std::unique_ptr<ModelRunner> runner, ModelRunner::open(checkpoint, options.runner));
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
  HADAL_TRY(runner->load(progress));
  return std::make_unique<Engine>(std::move(runner));
}

void append(Answer& answer, const OutputDelta& delta) {
  answer.reasoning += delta.reasoning;
  answer.content += delta.content;
  answer.tool_calls.insert(answer.tool_calls.end(), delta.tool_calls.begin(),
                           delta.tool_calls.end());
}

AnswerEnd end_of(FinishReason reason) {
  if (reason == FinishReason::kLength) return AnswerEnd::kLength;
  return reason == FinishReason::kContext ? AnswerEnd::kContext : AnswerEnd::kStop;
}

}  // namespace

double Usage::tokens_per_second() const {
  const double seconds = total_seconds - first_token_seconds;
  return new_tokens > 1 && seconds > 0 ? static_cast<double>(new_tokens - 1) / seconds : 0;
}

std::string_view name_of(AnswerEnd end) {
  constexpr std::string_view kNames[] = {"stop", "length", "context full", "interrupted"};
  return kNames[static_cast<size_t>(end)];
}

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

Result<Request> Session::request_of(std::vector<TokenId> ids, const AnswerOptions& options,
                                    std::string_view chat_format) const {
  Request request;
  request.prompt = std::move(ids);
  if (!options.adapter.empty()) {
    HADAL_TRY(request.adapter, engine_->runner().adapter_number(options.adapter));
  }
  request.max_new_tokens = options.max_new_tokens > 0 ? options.max_new_tokens : INT32_MAX;
  HADAL_TRY(request.sampling, sampling_params(options.sampling, checkpoint_->tokenizer(),
                                              chat_format, checkpoint_->path().string()));
  if (tokenizer_ && !options.ignore_ending) request.ending = tokenizer_->ending();
  return request;
}

Result<PreparedRequest> Session::prepare_chat(ChatRequest chat,
                                              const AnswerOptions& options) const {
  HADAL_TRY(const ChatFormat* format, chat_format());
  chat.chat_template = checkpoint_->tokenizer().chat_template;
  HADAL_TRY(const Prompt prompt, format->render(chat, tokenizer_.get()));
  std::vector<TokenId> ids = encode_prompt(prompt, *tokenizer_);
  if (const auto size = static_cast<int64_t>(ids.size()); size >= engine_->longest())
    return memory_error("the conversation has " + std::to_string(size) +
                        " tokens, the context holds " + std::to_string(engine_->longest()) +
                        ": no room for an answer");
  PreparedRequest prepared;
  HADAL_TRY(prepared.request, request_of(std::move(ids), options, format->name));
  std::vector<TokenId>& ending = prepared.request.ending;
  if (!options.ignore_ending)
    for (const std::string_view stop : format->stops)
      if (const auto id = tokenizer_->id_of(stop)) ending.push_back(*id);
  HADAL_TRY(std::unique_ptr<OutputParser> parser,
            make_output_parser(format->output_parser, prompt.thinking,
                               prompt.continues ? AnswerStart::kContinued : AnswerStart::kNew));
  prepared.stream.emplace(
      *tokenizer_, std::move(parser),
      AnswerStreamOptions{.stop = options.stop, .ending = ending, .show_special = true});
  return prepared;
}

Result<PreparedRequest> Session::prepare_ids(std::vector<TokenId> ids,
                                             const AnswerOptions& options) const {
  PreparedRequest prepared;
  HADAL_TRY(prepared.request, request_of(std::move(ids), options, ""));
  if (tokenizer_)
    prepared.stream.emplace(
        *tokenizer_, nullptr,
        AnswerStreamOptions{.stop = options.stop, .ending = prepared.request.ending});
  return prepared;
}

Result<Answer> Session::answer(PreparedRequest prepared, const OnDelta& on_delta) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  Answer answer;
  answer.usage.prompt_tokens = static_cast<int64_t>(prepared.request.prompt.size());
  bool wanted = true;
  const auto give = [&](const OutputDelta& delta) {
    append(answer, delta);
    wanted = wanted && on_delta(delta);
  };
  engine_->runner().clear_interrupt();  // one that came after the last answer was over
  HADAL_TRY(const SeqId id, engine_->add(std::move(prepared.request)));
  bool over = false;
  while (!over) {
    auto events = engine_->step();
    if (!events) {
      engine_->cancel(id);
      if (events.error().code != ErrorCode::kInterrupted) return std::move(events).error();
      engine_->runner().clear_interrupt();
      answer.end = AnswerEnd::kInterrupted;
      break;
    }
    for (TokenEvent& event : *events) {
      if (event.seq != id) continue;
      if (event.error) return *std::move(event.error);
      if (event.token >= 0) {
        if (answer.usage.new_tokens++ == 0) answer.usage.first_token_seconds = seconds();
        answer.ids.push_back(event.token);
        if (prepared.stream) give(prepared.stream->push(event.token));
      }
      answer.end = end_of(event.finish);
      over = event.finish != FinishReason::kNone;
      if (over || (wanted && !(prepared.stream && prepared.stream->stopped()))) continue;
      over = true;
      engine_->cancel(id);
    }
  }
  if (prepared.stream && wanted) give(prepared.stream->finish());
  if (prepared.stream && prepared.stream->stopped()) answer.end = AnswerEnd::kStop;
  answer.usage.total_seconds = seconds();
  return answer;
}

}  // namespace hadal
