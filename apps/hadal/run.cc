// hadal run: ask a model one question, or chat with it.
#include <unistd.h>

#include <histedit.h>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "session.h"
#include "text/chat/chat.h"
#include "text/output/output.h"

namespace hadal::app {
namespace {

constexpr int64_t kFirstContext =
    8192;  ///< tokens of cache at the start; it grows up to the model's limit

struct Options {
  ModelOptions model;
  SamplingOptions sampling;
  std::optional<std::string> prompt, system, chat_format, effort;
  std::optional<bool> thinking;
  int64_t max_new = 0;
  bool hide_thinking = false, json = false, quiet = false;
};

/// Prints an answer as it comes: content plain, thoughts dim on a terminal.
class AnswerPrinter {
 public:
  AnswerPrinter(bool stream, bool hide_thinking)
      : stream_(stream),
        hide_(hide_thinking),
        // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment
        color_(stream && ::isatty(STDOUT_FILENO) != 0 && !std::getenv("NO_COLOR")) {}

  void print(const OutputDelta& delta) {
    reasoning += delta.reasoning;
    content += delta.content;
    if (!stream_) return;
    if (!delta.reasoning.empty() && !hide_) {
      switch_to(true);
      write(delta.reasoning);
    }
    if (!delta.content.empty()) {
      switch_to(false);
      write(delta.content);
    }
    for (const ToolCall& call : delta.tool_calls) {
      switch_to(false);
      write("\n[tool call] " + call.name + " " + call.arguments + "\n");
    }
    std::fflush(stdout);
  }
  void end() {
    if (!stream_) return;
    if (thinking_ && color_) std::fputs("\033[0m", stdout);
    std::fputs("\n", stdout);
    std::fflush(stdout);
  }

  std::string reasoning, content;

 private:
  void switch_to(bool thinking) {
    if (thinking == thinking_) return;
    if (thinking)
      write(color_ ? "\033[2m" : "<think>\n");
    else
      write(color_ ? "\033[0m\n\n" : "\n</think>\n\n");
    thinking_ = thinking;
  }
  static void write(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }
  bool stream_, hide_, color_;
  bool thinking_ = false;
};

/// A conversation with one model.
class Chat {
 public:
  static Result<std::unique_ptr<Chat>> open(const Options& o) {
    std::unique_ptr<Chat> chat(new Chat(o));
    HADAL_TRY(chat->checkpoint_, Checkpoint::open(o.model.model));
    const Checkpoint& checkpoint = *chat->checkpoint_;
    HADAL_TRY(chat->tokenizer_, Tokenizer::create(checkpoint.tokenizer(), o.model.model));
    HADAL_TRY(chat->format_, choose_chat_format(o.chat_format, checkpoint));
    HADAL_TRY(const int64_t limit, model_context(checkpoint));
    RunnerOptions runner = o.model.runner(limit);
    runner.max_sequences = 1;
    runner.max_logit_rows = 1;
    HADAL_TRY(chat->engine_, Engine::load(checkpoint, runner, progress_bar()));
    if (o.system) chat->messages_.push_back({.role = "system", .content = *o.system});
    return chat;
  }

  /// Asks and prints; the answer becomes part of the conversation.
  Status ask(const std::string& question, bool interactive) {
    messages_.push_back({.role = "user", .content = question});
    ChatRequest chat{
        .messages = messages_, .thinking = o_.thinking, .effort = o_.effort.value_or("")};
    chat.chat_template = checkpoint_->tokenizer().chat_template;
    HADAL_TRY(const Prompt prompt, format_->render(chat, tokenizer_.get()));
    Request request;
    request.prompt = encode_prompt(prompt, *tokenizer_);
    const int64_t room = engine_->runner().context() - static_cast<int64_t>(request.prompt.size());
    if (room < 1)
      return memory_error("the conversation has " + std::to_string(request.prompt.size()) +
                          " tokens, the context holds " +
                          std::to_string(engine_->runner().context()));
    request.max_new_tokens = o_.max_new > 0 ? o_.max_new : room;
    request.ending = tokenizer_->ending();
    for (const std::string_view stop : format_->stops)
      if (const auto id = tokenizer_->id_of(stop)) request.ending.push_back(*id);
    HADAL_TRY(request.sampling,
              o_.sampling.params(checkpoint_->tokenizer(), format_->name, o_.model.model));
    HADAL_TRY(const std::unique_ptr<OutputParser> parser,
              make_output_parser(format_->output_parser, prompt.thinking,
                                 prompt.continues ? AnswerStart::kContinued : AnswerStart::kNew));

    AnswerPrinter printer(!o_.json, o_.hide_thinking);
    StreamDecoder decoder(*tokenizer_, false);
    StopStrings stops(o_.sampling.stop);
    const std::vector<TokenId> ending = request.ending;
    Result<Outcome> result = [&] {
      InterruptGuard guard(*engine_);
      return run_request(*engine_, std::move(request), [&](TokenId id) {
        if (std::find(ending.begin(), ending.end(), id) != ending.end()) return true;
        printer.print(parser->push(stops.push(decoder.push(id))));
        return !stops.hit();
      });
    }();
    if (!result) return std::move(result).error();
    if (!stops.hit()) printer.print(parser->push(stops.push(decoder.finish()) + stops.finish()));
    printer.print(parser->finish());
    printer.end();
    messages_.push_back(
        {.role = "assistant", .content = printer.content, .reasoning = printer.reasoning});
    report(*result, printer);
    if (result->interrupted && !interactive) return Error{ErrorCode::kInterrupted, "interrupted"};
    return {};
  }

  void forget() {
    std::erase_if(messages_, [](const ChatMessage& m) { return m.role != "system"; });
  }
  /// Takes back a question that got no answer.
  void take_back() {
    if (!messages_.empty() && messages_.back().role == "user") messages_.pop_back();
  }
  [[nodiscard]] std::string greeting() const {
    return o_.model.model + ": " + engine_->spec().family + ", chat format " +
           std::string(format_->name) + ", context " + std::to_string(engine_->runner().context());
  }

 private:
  explicit Chat(const Options& o) : o_(o) {}

  void report(const Outcome& outcome, const AnswerPrinter& printer) const {
    if (o_.json) {
      nlohmann::ordered_json j;
      j["content"] = printer.content;
      if (!printer.reasoning.empty()) j["reasoning"] = printer.reasoning;
      j["finish"] = outcome.finish_text();
      j["prompt_tokens"] = outcome.prompt_tokens;
      j["new_tokens"] = outcome.new_tokens;
      j["tokens_per_second"] = outcome.tokens_per_second();
      j["first_token_seconds"] = outcome.first_token_seconds;
      std::printf("%s\n", j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
      std::fflush(stdout);
      return;
    }
    if (o_.quiet) return;
    std::fprintf(
        stderr, "[%lld prompt + %lld new tokens, %.1f tokens/s, first token after %.2f s, %s]\n",
        static_cast<long long>(outcome.prompt_tokens), static_cast<long long>(outcome.new_tokens),
        outcome.tokens_per_second(), outcome.first_token_seconds, outcome.finish_text().c_str());
  }

  const Options& o_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Tokenizer> tokenizer_;
  const ChatFormat* format_ = nullptr;
  std::unique_ptr<Engine> engine_;
  std::vector<ChatMessage> messages_;
};

/// A line editor with history; closes itself.
class LineEditor {
 public:
  LineEditor() : editor_(el_init("hadal", stdin, stdout, stderr)), history_(history_init()) {
    el_set(
        editor_, EL_PROMPT, +[](EditLine*) -> char* {
          static char prompt[] = ">>> ";
          return prompt;
        });
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_SIGNAL, 1);
    HistEvent event;
    history(history_, &event, H_SETSIZE, 500);
    el_set(editor_, EL_HIST, history, history_);
  }
  ~LineEditor() {
    history_end(history_);
    el_end(editor_);
  }
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  /// The next line without its newline; nothing at the end of input.
  std::optional<std::string> read() {
    int count = 0;
    const char* line = el_gets(editor_, &count);
    if (!line || count <= 0) return std::nullopt;
    std::string text(line, static_cast<size_t>(count));
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
    if (!text.empty()) {
      HistEvent event;
      history(history_, &event, H_ENTER, text.c_str());
    }
    return text;
  }

 private:
  EditLine* editor_;
  History* history_;
};

Status interact(Chat& chat) {
  std::fprintf(
      stderr,
      "%s\n/clear forgets the conversation, /exit or Ctrl-D ends, Ctrl-C stops an answer.\n",
      chat.greeting().c_str());
  LineEditor editor;
  while (auto line = editor.read()) {
    if (line->empty()) continue;
    if (*line == "/exit" || *line == "/bye" || *line == "/quit") break;
    if (*line == "/clear") {
      chat.forget();
      continue;
    }
    if ((*line)[0] == '/' && line->find(' ') == std::string::npos) {
      std::fprintf(stderr, "unknown command %s; there are /clear and /exit\n", line->c_str());
      continue;
    }
    if (const Status status = chat.ask(*line, true); !status) {
      std::fprintf(stderr, "hadal: %s\n", status.error().message.c_str());
      chat.take_back();
    }
  }
  std::fprintf(stderr, "\n");
  return {};
}

Status run(const Options& o) {
  std::optional<std::string> prompt = o.prompt;
  const bool terminal = ::isatty(STDIN_FILENO) != 0;
  if (!prompt && !terminal) {
    prompt = read_stdin();
    while (!prompt->empty() && prompt->back() == '\n') prompt->pop_back();
  }
  if (prompt && prompt->empty()) return usage_error("the prompt is empty");
  HADAL_TRY(const std::unique_ptr<Chat> chat, Chat::open(o));
  return prompt ? chat->ask(*prompt, false) : interact(*chat);
}

}  // namespace

void add_run(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("run", "ask a model one question, or chat with it");
  o->model.declare(*c);
  c->add_option("PROMPT", o->prompt,
                "the question; without it standard input, or a chat on a terminal");
  c->add_option("--system", o->system, "system message");
  c->add_option("--max-new", o->max_new, "most tokens to generate; 0: until the context is full")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  c->add_option("--thinking", o->thinking, "true or false, for models that know both");
  c->add_option("--effort", o->effort, "reasoning effort, for models that know it");
  c->add_flag("--hide-thinking", o->hide_thinking, "do not show the model's thoughts");
  c->add_option("--chat-format", o->chat_format, chat_format_help())->envname("HADAL_CHAT_FORMAT");
  c->add_flag("--json", o->json, "print one JSON object instead of a stream");
  c->add_flag("--quiet", o->quiet, "no closing line on stderr");
  o->sampling.declare(*c);
  c->callback([o, &chosen] { chosen = [o] { return run(*o); }; });
}

}  // namespace hadal::app
