// hadal generate: raw continuation of ids or text, no chat format.
#include <memory>
#include <nlohmann/json.hpp>

#include "answer_flags.h"
#include "command.h"
#include "interrupt.h"
#include "session/session.h"

namespace hadal::app {
namespace {

struct Options {
  ModelFlags model;
  AnswerFlags answer;
  std::optional<std::string> ids, text;
  bool ignore_eos = false, print_ids = false, json = false;
};

/// The prompt's ids, from --ids or --text.
Result<std::vector<TokenId>> prompt_ids(const Options& o, const Checkpoint& checkpoint) {
  if (o.ids) {
    HADAL_TRY(const std::vector<int64_t> numbers, parse_ids(*o.ids));
    return std::vector<TokenId>(numbers.begin(), numbers.end());
  }
  HADAL_TRY(const std::unique_ptr<Tokenizer> tokenizer,
            Tokenizer::create(checkpoint.tokenizer(), o.model.path));
  return tokenizer->encode(*o.text, {.added_tokens = true, .bos = tokenizer->add_bos()});
}

void print_json(Output& out, const Options& o, const Answer& answer) {
  nlohmann::ordered_json j;
  j["ids"] = answer.ids;
  if (!o.print_ids) j["text"] = answer.content;
  j["finish"] = name_of(answer.end);
  j["prompt_tokens"] = answer.usage.prompt_tokens;
  j["new_tokens"] = answer.usage.new_tokens;
  j["seconds"] = answer.usage.total_seconds;
  j["first_token_seconds"] = answer.usage.first_token_seconds;
  out.print("{}\n", j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

Status run(const Options& o, Output& out) {
  HADAL_TRY(o.model.join());
  if (o.ids.has_value() == o.text.has_value()) return usage_error("give either --ids or --text");
  HADAL_TRY(std::unique_ptr<Checkpoint> checkpoint, o.model.open());
  if (checkpoint->tokenizer().empty() && (o.text || !o.print_ids))
    return failed(o.model.path + ": has no tokenizer; give --ids and --print-ids");
  HADAL_TRY(const std::vector<TokenId> prompt, prompt_ids(o, *checkpoint));
  const auto n = static_cast<int64_t>(prompt.size());
  HADAL_TRY(const int64_t limit, model_context(*checkpoint));
  if (!o.model.ctx && n > limit)
    return memory_error("the prompt has " + std::to_string(n) + " tokens, the model's limit is " +
                        std::to_string(limit));
  AnswerOptions wanted = o.answer.answer();
  wanted.ignore_ending = o.ignore_eos;
  HADAL_TRY(wanted.adapter, o.model.chosen_adapter());
  const int64_t most = wanted.max_new_tokens > 0 ? wanted.max_new_tokens : limit;
  SessionOptions options = o.model.session(std::min(limit, n + most));
  options.runner.max_sequences = 1;
  options.runner.max_logit_rows = kGuessRows;
  options.runner.max_tokens = std::max<int64_t>(1, std::min<int64_t>(512, n));
  // Ids in and ids out need no text; a broken tokenizer matters only for its ending tokens.
  options.needs_tokenizer = !o.print_ids || o.text || !o.ignore_eos;
  HADAL_TRY(const std::unique_ptr<Session> session,
            Session::open(std::move(checkpoint), options, progress_bar()));
  print_notes(session->notes());
  print_notes(session->engine().runner().placement_text());
  HADAL_TRY(PreparedRequest prepared, session->prepare_ids(prompt, wanted));
  const bool stream = !o.print_ids && !o.json;
  InterruptGuard guard(session->engine());
  bool begun = false;
  auto answered = session->answer(std::move(prepared), [&](const OutputDelta& delta) {
    begun = stream && (begun || !delta.content.empty());
    if (stream) out.write(delta.content);
    return out.flush().has_value();
  });
  if (!answered && begun) out.write("\n");  // what is said of it gets a line of its own
  HADAL_TRY(const Answer answer, std::move(answered));
  if (o.json) {
    print_json(out, o, answer);
  } else if (o.print_ids) {
    std::string line;
    for (const TokenId id : answer.ids) line += (line.empty() ? "" : ",") + std::to_string(id);
    out.print("{}\n", line);
  } else {
    out.write("\n");
  }
  HADAL_TRY(out.flush());
  if (answer.end == AnswerEnd::kContext)
    print_note(fmt::format("hadal: note: the context is full: it holds {} tokens",
                           session->engine().longest()));
  if (answer.end == AnswerEnd::kInterrupted)
    return Error{.code = ErrorCode::kInterrupted, .message = "interrupted"};
  return {};
}

}  // namespace

void add_generate(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("generate", "continue raw ids or text, without a chat format");
  o->model.declare(*c);
  o->model.declare_adapter(*c);
  o->model.declare_draft(*c);
  c->add_option("--ids", o->ids, "the prompt as token ids, commas between; -: from standard input");
  c->add_option(
      "--text", o->text,
      "instead of --ids: the prompt as text; adds what the tokenizer's configuration says");
  c->add_flag("--ignore-eos", o->ignore_eos, "do not stop at an ending token");
  c->add_flag("--print-ids", o->print_ids,
              "print the generated ids only, commas between, the ending one included");
  c->add_flag("--json", o->json, "print one JSON object at the end");
  o->answer.declare(*c, 128);
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run(*o, out); }; });
}

}  // namespace hadal::app
