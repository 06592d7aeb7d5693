// hadal run: ask a model one question, or chat with it.
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "answer_flags.h"
#include "chat_commands.h"
#include "command.h"
#include "conversations.h"
#include "input.h"
#include "interrupt.h"
#include "line_editor.h"
#include "session/conversation.h"
#include "session/session.h"

namespace hadal::app {
namespace {

struct Options {
  ModelFlags model;
  AnswerFlags answer;
  std::optional<std::string> prompt, system, chat_format, effort, save, resume;
  std::optional<bool> thinking;
  std::optional<int64_t> thinking_budget;
  bool hide_thinking = false, json = false, quiet = false;
};

/// Prints an answer as it comes: content plain, thoughts dim on a terminal.
class AnswerPrinter {
 public:
  AnswerPrinter(Output& out, bool hide_thinking)
      : out_(out),
        hide_(hide_thinking),
        // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment
        color_(out.terminal() && !std::getenv("NO_COLOR")) {}
  ~AnswerPrinter() { reset(); }
  AnswerPrinter(const AnswerPrinter&) = delete;
  AnswerPrinter& operator=(const AnswerPrinter&) = delete;

  void print(const OutputDelta& delta) {
    begun_ = begun_ || (!delta.reasoning.empty() && !hide_) || !delta.content.empty();
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
    reset();
    out_.write("\n");
  }
  /// An answer that fails: what is said of it gets a line of its own.
  void break_off() {
    if (begun_) end();
  }

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
  bool hide_, color_;
  bool thinking_ = false, begun_ = false;
};

/// A conversation with one model.
class Chat {
 public:
  static Result<std::unique_ptr<Chat>> open(const Options& o, Output& out) {
    std::unique_ptr<Chat> chat(new Chat(o, out));
    HADAL_TRY(chat->start());
    HADAL_TRY(o.model.chosen_adapter());  // a question too late to ask otherwise
    HADAL_TRY(std::unique_ptr<Checkpoint> checkpoint, o.model.open());
    HADAL_TRY(const int64_t limit, model_context(*checkpoint));
    SessionOptions options = o.model.session(limit);
    options.chat_format = o.chat_format;
    options.runner.max_sequences = 1;
    options.runner.max_logit_rows = kGuessRows;
    HADAL_TRY(chat->session_, Session::open(std::move(checkpoint), options, progress_bar()));
    print_notes(chat->session_->notes());
    print_notes(chat->session_->engine().runner().notes());
    HADAL_TRY(chat->format_, chat->session_->chat_format());
    return chat;
  }

  /// Asks and prints; the answer becomes part of the conversation. A question that got no answer
  /// does not.
  Status ask(const std::string& question, bool interactive) {
    Conversation asked = conversation_;
    asked.messages.push_back({.role = "user", .content = question});
    ChatRequest request{
        .messages = asked.messages, .thinking = o_.thinking, .effort = o_.effort.value_or("")};
    AnswerOptions wanted = o_.answer.answer();
    wanted.thinking_budget = o_.thinking_budget;
    HADAL_TRY(wanted.adapter, o_.model.chosen_adapter());
    HADAL_TRY(PreparedRequest prepared, session_->prepare_chat(std::move(request), wanted));
    HADAL_TRY(const Answer answer, print_answer(std::move(prepared)));
    HADAL_TRY(out_.flush());
    if (answer.end == AnswerEnd::kInterrupted && answer.usage.new_tokens == 0)
      return interactive ? Status{}
                         : Error{.code = ErrorCode::kInterrupted, .message = "interrupted"};
    asked.messages.push_back({.role = "assistant",
                              .content = answer.content,
                              .reasoning = answer.reasoning,
                              .tool_calls = answer.tool_calls});
    conversation_ = std::move(asked);
    report(answer, interactive);
    HADAL_TRY(out_.flush());
    HADAL_TRY(save());
    if (answer.end == AnswerEnd::kInterrupted && !interactive)
      return Error{.code = ErrorCode::kInterrupted, .message = "interrupted"};
    return {};
  }

  Status clear() {
    conversation_.clear();
    return save();
  }
  /// False if there is no question to take back.
  Result<bool> undo() {
    const bool undone = conversation_.undo();
    HADAL_TRY(save());
    return undone;
  }
  /// What was computed stays in --kv-file.
  void save_pages() { session_->engine().save_pages(); }
  [[nodiscard]] Output& output() { return out_; }
  [[nodiscard]] std::string greeting() const {
    Engine& engine = session_->engine();
    std::string text = o_.model.path + ": " + engine.spec().family + ", chat format " +
                       std::string(format_->name) + ", context " +
                       std::to_string(engine.longest()) + " tokens";
    if (engine.longest() < engine.spec().max_position_embeddings)
      text += " of the model's " + std::to_string(engine.spec().max_position_embeddings);
    const auto questions =
        std::count_if(conversation_.messages.begin(), conversation_.messages.end(),
                      [](const ChatMessage& m) { return m.role == "user"; });
    if (questions > 0)
      text += "\nThe conversation goes on after " + std::to_string(questions) +
              (questions == 1 ? " question." : " questions.");
    return text;
  }

 private:
  Chat(const Options& o, Output& out) : o_(o), out_(out) {}

  /// The conversation that is resumed, and where it is saved: known before anything is loaded.
  Status start() {
    conversation_.model = o_.model.path;
    if (o_.resume) {
      saved_ = conversation_path(*o_.resume);
      HADAL_TRY(conversation_, load_conversation(*saved_));
      conversation_.model = o_.model.path;
    }
    if (o_.save) {
      const std::filesystem::path place = conversation_path(*o_.save);
      std::error_code error;
      const bool exists = std::filesystem::exists(place, error);
      if (error) return failed(place.string() + ": " + error.message());
      if (exists && std::filesystem::is_directory(place, error))
        return usage_error(place.string() + ": is a folder; give a name, or a .json file in it");
      if (exists && !(saved_ && std::filesystem::equivalent(place, *saved_, error)))
        return usage_error(place.string() +
                           ": there is a conversation of this name; go on with it by --resume, or "
                           "choose another name");
      saved_ = place;
    }
    if (saved_) HADAL_TRY(check_place(*saved_));  // before anything is loaded
    if (!o_.system) return {};
    auto& messages = conversation_.messages;
    std::erase_if(messages, [](const ChatMessage& m) { return m.role == "system"; });
    messages.insert(messages.begin(), {.role = "system", .content = *o_.system});
    return {};
  }

  /// Ctrl-C ends the answer, not the program.
  Result<Answer> print_answer(PreparedRequest prepared) {
    AnswerPrinter printer(out_, o_.hide_thinking);
    InterruptGuard guard(session_->engine());
    auto answer = session_->answer(std::move(prepared), [&](const OutputDelta& delta) {
      if (!o_.json) printer.print(delta);
      return out_.flush().has_value();
    });
    if (o_.json) return answer;
    answer ? printer.end() : printer.break_off();
    return answer;
  }

  Status save() const { return saved_ ? save_conversation(conversation_, *saved_) : Status{}; }

  void report(const Answer& answer, bool interactive) const {
    if (o_.json) {
      nlohmann::ordered_json j;
      j["content"] = answer.content;
      if (!answer.reasoning.empty()) j["reasoning"] = answer.reasoning;
      for (const ToolCall& call : answer.tool_calls)
        j["tool_calls"].push_back({{"name", call.name}, {"arguments", call.arguments}});
      j["finish"] = name_of(answer.end);
      j["prompt_tokens"] = answer.usage.prompt_tokens;
      j["cached_tokens"] = answer.usage.cached_tokens;
      j["thought_tokens"] = answer.usage.thought_tokens;
      j["new_tokens"] = answer.usage.new_tokens;
      j["tokens_per_second"] = answer.usage.tokens_per_second();
      j["first_token_seconds"] = answer.usage.first_token_seconds;
      out_.print("{}\n", j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    } else if (!o_.quiet) {
      print_note(fmt::format(
          "[{} prompt + {} new tokens, {:.1f} tokens/s, first token after {:.2f} s, {}]",
          answer.usage.prompt_tokens, answer.usage.new_tokens, answer.usage.tokens_per_second(),
          answer.usage.first_token_seconds, name_of(answer.end)));
    }
    if (answer.end == AnswerEnd::kContext)
      print_note(fmt::format(
          "The context is full: the conversation has {} tokens, it holds {}.{}{}",
          answer.usage.prompt_tokens + answer.usage.new_tokens, session_->engine().longest(),
          interactive ? "\n" : "", interactive ? full_context_help() : ""));
  }

  const Options& o_;
  Output& out_;
  std::unique_ptr<Session> session_;
  const ChatFormat* format_ = nullptr;
  Conversation conversation_;
  std::optional<std::filesystem::path> saved_;
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
        if (const Status done = chat.clear(); !done) print_error(done.error());
        continue;
      case ChatCommand::kUndo:
        if (const Result<bool> undone = chat.undo(); !undone)
          print_error(undone.error());
        else if (!*undone)
          print_note("There is no question to take back.");
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
      print_error(status.error());
      if (status.error().code == ErrorCode::kMemory) print_note(full_context_help());
    }
  }
  print_note("");
  return {};
}

Status run(const Options& o, Output& out) {
  HADAL_TRY(o.model.join());
  HADAL_TRY(const std::optional<std::string> question, whole_question(o.prompt));
  HADAL_TRY(const std::unique_ptr<Chat> chat, Chat::open(o, out));
  const Status talked = question ? chat->ask(*question, false) : interact(*chat);
  chat->save_pages();
  return talked;
}

}  // namespace

void add_run(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("run", "ask a model one question, or chat with it");
  o->model.declare(*c);
  o->model.declare_adapter(*c);
  o->model.declare_draft(*c);
  o->model.declare_kv_file(*c, "Advanced");
  c->add_option(
      "PROMPT", o->prompt,
      "the question; a pipe or a file at standard input is read to its end and goes before it.\n"
      "Without a question: standard input, or a chat on a terminal");
  c->add_option("--system", o->system, "system message");
  c->add_option("--thinking", o->thinking, "true or false, for models that know both");
  c->add_option("--effort", o->effort, "reasoning effort, for models that know it");
  c->add_option("--thinking-budget", o->thinking_budget,
                "most tokens of a thought: then it is closed, and the model answers")
      ->check(
          CLI::Range(limit("thinking_token_budget").least, limit("thinking_token_budget").most));
  c->add_flag("--hide-thinking", o->hide_thinking, "do not show the model's thoughts");
  c->add_option("--chat-format", o->chat_format, chat_format_help())->envname("HADAL_CHAT_FORMAT");
  c->add_option("--save", o->save,
                "save the conversation after each answer: a name (hadal conversations lists them), "
                "or the path of a .json file");
  c->add_option("--resume", o->resume, "go on with a saved conversation, and save it again");
  c->add_flag("--json", o->json, "print one JSON object instead of a stream");
  c->add_flag("--quiet", o->quiet, "no closing line on stderr");
  o->answer.declare(*c, 0);
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run(*o, out); }; });
}

}  // namespace hadal::app
