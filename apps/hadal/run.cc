// hadal run: ask a model one question, or chat with it.
#include <unistd.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "chat_commands.h"
#include "command.h"
#include "input.h"
#include "line_editor.h"
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
  AnswerPrinter(Output& out, bool stream, bool hide_thinking)
      : out_(out),
        stream_(stream),
        hide_(hide_thinking),
        // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment
        color_(stream && out.terminal() && !std::getenv("NO_COLOR")) {}

  ~AnswerPrinter() { reset(); }
  AnswerPrinter(const AnswerPrinter&) = delete;
  AnswerPrinter& operator=(const AnswerPrinter&) = delete;

  void print(const OutputDelta& delta) {
    reasoning += delta.reasoning;
    content += delta.content;
    if (!stream_) return;
    if (!delta.reasoning.empty() && !hide_) {
      switch_to(true);
      out_.write(delta.reasoning);
    }
    if (!delta.content.empty()) {
      switch_to(false);
      out_.write(delta.content);
    }
    for (const ToolCall& call : delta.tool_calls) {
      switch_to(false);
      out_.write("\n[tool call] " + call.name + " " + call.arguments + "\n");
    }
  }
  void end() {
    if (!stream_) return;
    reset();
    out_.write("\n");
  }

  std::string reasoning, content;

 private:
  /// An answer that fails in a thought must not leave the terminal dim.
  void reset() {
    if (thinking_ && color_) out_.style("\033[0m");
    thinking_ = false;
  }
  void switch_to(bool thinking) {
    if (thinking == thinking_) return;
    if (color_)
      out_.style(thinking ? "\033[2m" : "\033[0m\n\n");
    else
      out_.write(thinking ? "<think>\n" : "\n</think>\n\n");
    thinking_ = thinking;
  }
  Output& out_;
  bool stream_, hide_, color_;
  bool thinking_ = false;
};

/// A conversation with one model.
class Chat {
 public:
  static Result<std::unique_ptr<Chat>> open(const Options& o, Output& out) {
    std::unique_ptr<Chat> chat(new Chat(o, out));
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

    AnswerPrinter printer(out_, !o_.json, o_.hide_thinking);
    StreamDecoder decoder(*tokenizer_, false);
    StopStrings stops(o_.sampling.stop);
    const std::vector<TokenId> ending = request.ending;
    Result<Outcome> result = [&] {
      InterruptGuard guard(*engine_);
      return run_request(*engine_, std::move(request), [&](TokenId id) {
        if (std::find(ending.begin(), ending.end(), id) != ending.end()) return true;
        printer.print(parser->push(stops.push(decoder.push(id))));
        return out_.flush() && !stops.hit();
      });
    }();
    if (!result) return std::move(result).error();
    if (!stops.hit()) printer.print(parser->push(stops.push(decoder.finish()) + stops.finish()));
    printer.print(parser->finish());
    printer.end();
    HADAL_TRY(out_.flush());
    messages_.push_back(
        {.role = "assistant", .content = printer.content, .reasoning = printer.reasoning});
    report(*result, printer);
    HADAL_TRY(out_.flush());
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
  [[nodiscard]] Output& output() { return out_; }
  [[nodiscard]] std::string greeting() const {
    return o_.model.model + ": " + engine_->spec().family + ", chat format " +
           std::string(format_->name) + ", context " + std::to_string(engine_->runner().context());
  }

 private:
  Chat(const Options& o, Output& out) : o_(o), out_(out) {}

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
      out_.print("{}\n", j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
      return;
    }
    if (o_.quiet) return;
    print_note(
        fmt::format("[{} prompt + {} new tokens, {:.1f} tokens/s, first token after {:.2f} s, {}]",
                    outcome.prompt_tokens, outcome.new_tokens, outcome.tokens_per_second(),
                    outcome.first_token_seconds, outcome.finish_text()));
  }

  const Options& o_;
  Output& out_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Tokenizer> tokenizer_;
  const ChatFormat* format_ = nullptr;
  std::unique_ptr<Engine> engine_;
  std::vector<ChatMessage> messages_;
};

Status interact(Chat& chat) {
  print_note(chat.greeting() + "\n/help lists the commands and keys; Ctrl-D ends.");
  LineEditor editor;
  while (auto line = editor.read()) {
    switch (chat_command(*line)) {
      case ChatCommand::kExit:
        return {};
      case ChatCommand::kHelp:
        print_note(chat_help());
        continue;
      case ChatCommand::kClear:
        chat.forget();
        continue;
      case ChatCommand::kUnknown:
        print_error("unknown command " + *line + "; there are " + chat_command_names());
        continue;
      case ChatCommand::kQuestion:
        break;
    }
    if (line->find_first_not_of(" \t\r\n") == std::string::npos) continue;
    if (const Status status = chat.ask(*line, true); !status) {
      HADAL_TRY(chat.output().flush());
      print_error(status.error().message);
      chat.take_back();
    }
  }
  print_note("");
  return {};
}

Status run(const Options& o, Output& out) {
  HADAL_TRY(const std::optional<std::string> question, whole_question(o.prompt));
  HADAL_TRY(const std::unique_ptr<Chat> chat, Chat::open(o, out));
  return question ? chat->ask(*question, false) : interact(*chat);
}

}  // namespace

void add_run(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("run", "ask a model one question, or chat with it");
  o->model.declare(*c);
  c->add_option(
      "PROMPT", o->prompt,
      "the question; text that is piped in goes before it. Without it: standard input, or a "
      "chat on a terminal");
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
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run(*o, out); }; });
}

}  // namespace hadal::app
