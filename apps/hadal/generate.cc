// hadal generate: raw continuation of ids or text, no chat format.
#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "session.h"

namespace hadal::app {
namespace {

struct Options {
  ModelOptions model;
  SamplingOptions sampling;
  std::optional<std::string> ids, text;
  int64_t max_new = 128;
  bool ignore_eos = false, print_ids = false, json = false;
};

/// The prompt's ids, from --ids or --text.
Result<std::vector<TokenId>> prompt_ids(const Options& o, const Tokenizer* tokenizer) {
  if (o.ids) {
    HADAL_TRY(const std::vector<int64_t> numbers, parse_ids(*o.ids));
    return std::vector<TokenId>(numbers.begin(), numbers.end());
  }
  return tokenizer->encode(*o.text, {.added_tokens = true, .bos = tokenizer->add_bos()});
}

void print_json(Output& out, const Options& o, const Outcome& outcome,
                const std::vector<TokenId>& ids, const std::string& text) {
  nlohmann::ordered_json j;
  j["ids"] = ids;
  if (!o.print_ids) j["text"] = text;
  j["finish"] = outcome.finish_text();
  j["prompt_tokens"] = outcome.prompt_tokens;
  j["new_tokens"] = outcome.new_tokens;
  j["seconds"] = outcome.total_seconds;
  j["first_token_seconds"] = outcome.first_token_seconds;
  out.print("{}\n", j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

Status run(const Options& o, Output& out) {
  if (o.ids.has_value() == o.text.has_value()) return usage_error("give either --ids or --text");
  HADAL_TRY(const std::unique_ptr<Checkpoint> checkpoint, Checkpoint::open(o.model.model));
  // Ids in and ids out need no tokenizer but for its ending tokens; a model without one still
  // generates.
  std::unique_ptr<Tokenizer> tokenizer;
  if (!checkpoint->tokenizer().empty()) {
    auto created = Tokenizer::create(checkpoint->tokenizer(), o.model.model);
    if (created)
      tokenizer = *std::move(created);
    else if (o.text || !o.ignore_eos)
      return std::move(created).error();
  }
  if (!tokenizer && (o.text || !o.print_ids))
    return failed(o.model.model + ": has no tokenizer; give --ids and --print-ids");
  HADAL_TRY(const std::vector<TokenId> prompt, prompt_ids(o, tokenizer.get()));
  const auto n = static_cast<int64_t>(prompt.size());
  HADAL_TRY(const int64_t limit, model_context(*checkpoint));
  if (!o.model.ctx && n > limit)
    return memory_error("the prompt has " + std::to_string(n) + " tokens, the model's limit is " +
                        std::to_string(limit));
  RunnerOptions runner = o.model.runner(std::min(limit, n + o.max_new));
  runner.max_sequences = 1;
  runner.max_logit_rows = 1;
  runner.max_tokens = std::max<int64_t>(1, std::min<int64_t>(512, n));
  HADAL_TRY(const std::unique_ptr<Engine> engine,
            Engine::load(*checkpoint, runner, progress_bar()));

  Request request;
  request.prompt = prompt;
  request.max_new_tokens = o.max_new;
  HADAL_TRY(request.sampling, o.sampling.params(checkpoint->tokenizer(), "", o.model.model));
  if (tokenizer && !o.ignore_eos) request.ending = tokenizer->ending();

  std::vector<TokenId> ids;
  std::string text;
  std::optional<StreamDecoder> decoder;
  if (tokenizer) decoder.emplace(*tokenizer);
  StopStrings stops(o.sampling.stop);
  const bool stream = !o.print_ids && !o.json;
  const auto emit = [&](const std::string& piece) {
    text += piece;
    if (stream) out.write(piece);
  };
  InterruptGuard guard(*engine);
  HADAL_TRY(const Outcome outcome, run_request(*engine, std::move(request), [&](TokenId id) {
              ids.push_back(id);
              if (decoder) emit(stops.push(decoder->push(id)));
              return out.flush() && !stops.hit();
            }));
  if (decoder && !stops.hit()) emit(stops.push(decoder->finish()) + stops.finish());
  if (o.json) {
    print_json(out, o, outcome, ids, text);
  } else if (o.print_ids) {
    std::string line;
    for (const TokenId id : ids) line += (line.empty() ? "" : ",") + std::to_string(id);
    out.print("{}\n", line);
  } else {
    out.write("\n");
  }
  HADAL_TRY(out.flush());
  if (outcome.interrupted) return Error{ErrorCode::kInterrupted, "interrupted"};
  return {};
}

}  // namespace

void add_generate(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("generate", "continue raw ids or text, without a chat format");
  o->model.declare(*c);
  c->add_option("--ids", o->ids, "the prompt as token ids, commas between; -: from standard input");
  c->add_option("--text", o->text,
                "the prompt as text; adds what the tokenizer's configuration says");
  c->add_option("--max-new", o->max_new, "most tokens to generate")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  c->add_flag("--ignore-eos", o->ignore_eos, "do not stop at an ending token");
  c->add_flag("--print-ids", o->print_ids,
              "print the generated ids only, commas between, the ending one included");
  c->add_flag("--json", o->json, "print one JSON object at the end");
  o->sampling.declare(*c);
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run(*o, out); }; });
}

}  // namespace hadal::app
