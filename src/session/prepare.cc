// From messages, text and options to the engine's request and what reads its tokens.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "session/answer_constraint.h"
#include "session/session.h"

namespace hadal {
namespace {

/// Ids of a text that must not occur: with a blank before it and without, as it stands behind one.
void add_bad_word(const Tokenizer& tokenizer, const std::string& word,
                  std::vector<std::vector<TokenId>>& runs) {
  for (const std::string& text : {word, " " + word}) {
    std::vector<TokenId> ids = tokenizer.encode(text);
    if (!ids.empty() && std::find(runs.begin(), runs.end(), ids) == runs.end())
      runs.push_back(std::move(ids));
  }
}

GrammarSource source_of(const AnswerShape& shape) {
  constexpr GrammarKind kKinds[] = {GrammarKind::kJsonObject, GrammarKind::kJsonSchema,
                                    GrammarKind::kRegex, GrammarKind::kEbnf};
  return {.kind = kKinds[static_cast<size_t>(shape.kind)], .text = shape.text};
}

/// How the answer to a prompt begins, if its format knows thoughts.
ThoughtAt thought_at(const ChatFormat& format, const ChatRequest& chat, const Prompt& prompt) {
  if (!format.output_parser.starts_with("think")) return ThoughtAt::kNone;
  if (prompt.thinking) return ThoughtAt::kOpen;
  std::string text = prompt.text();
  text.erase(text.find_last_not_of("\n ") + 1);
  const bool closed = text.ends_with("</think>") || chat.thinking == false || prompt.continues;
  return closed ? ThoughtAt::kNone : ThoughtAt::kMaybe;
}

/// What the tools of a chat ask of an answer: none, or a grammar of their calls.
std::optional<GrammarSource> calls_of(const ChatRequest& chat, const AnswerOptions& options,
                                      const ChatFormat& format) {
  if (chat.tools_json.empty() || options.tool_use == ToolUse::kNone) return std::nullopt;
  const bool must = options.tool_use == ToolUse::kRequired || options.tool_use == ToolUse::kNamed;
  if (!must && !options.strict_tools) return std::nullopt;
  return GrammarSource{.kind = GrammarKind::kTools,
                       .text = chat.tools_json,
                       .format = std::string(format.output_parser),
                       .tool_choice = options.tool_use == ToolUse::kNamed      ? options.tool_name
                                      : options.tool_use == ToolUse::kRequired ? "required"
                                                                               : "auto"};
}

std::vector<float> log_probabilities(std::span<const float> logits) {
  const auto largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double total = 0;
  for (const float l : logits) total += std::exp(static_cast<double>(l) - largest);
  std::vector<float> out;
  out.reserve(logits.size());
  for (const float l : logits)
    out.push_back(static_cast<float>(static_cast<double>(l) - largest - std::log(total)));
  return out;
}

/// The log-probabilities of a prompt's tokens, from the logits before each.
void score_prompt(PreparedRequest& prepared, int64_t top) {
  auto scores = std::make_shared<std::vector<AnswerToken>>();
  for (const TokenId id : prepared.request.prompt) scores->push_back({.id = id});
  prepared.prompt_scores = scores;
  prepared.request.reuse_prefix = false;  // what is cached has no logits
  // Of several samples each may compute the prompt, and again where it lost its place; each
  // position is written once, since another thread may read them all behind the first sample's
  // first token.
  auto written = std::make_shared<std::vector<bool>>(scores->size());
  prepared.request.on_logits = [scores, written, top](int64_t position,
                                                      std::span<const float> logits) {
    const auto next = static_cast<size_t>(position + 1);
    if (next >= scores->size() || (*written)[next]) return;
    (*written)[next] = true;
    AnswerToken& token = (*scores)[next];
    const auto logprobs = log_probabilities(logits);
    token.logprob = logprobs[static_cast<size_t>(token.id)];
    std::vector<TokenId> ids(logprobs.size());
    std::iota(ids.begin(), ids.end(), 0);
    const auto best = ids.begin() + std::min<int64_t>(top, static_cast<int64_t>(ids.size()));
    std::partial_sort(ids.begin(), best, ids.end(), [&](TokenId a, TokenId b) {
      return std::pair(-logprobs[static_cast<size_t>(a)], a) <
             std::pair(-logprobs[static_cast<size_t>(b)], b);
    });
    for (auto id = ids.begin(); id != best; ++id)
      token.top.push_back({*id, logprobs[static_cast<size_t>(*id)]});
  };
}

}  // namespace

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
  request.ending.insert(request.ending.end(), options.stop_tokens.begin(),
                        options.stop_tokens.end());
  request.top_logprobs = options.logprobs ? options.top_logprobs : 0;
  request.logit_bias = options.logit_bias;
  if (!options.bad_words.empty() && !tokenizer_)
    return usage_error("bad_words: the model has no tokenizer");
  for (const std::string& word : options.bad_words)
    add_bad_word(*tokenizer_, word, request.bad_words);
  request.priority = options.priority;
  if (options.deadline_seconds) request.deadline = engine_->now() + *options.deadline_seconds;
  request.cache_key = options.cache_salt;
  request.prompt_lookup = options.prompt_lookup.value_or(prompt_lookup_);
  return request;
}

Result<std::shared_ptr<const CompiledGrammar>> Session::compile(const GrammarSource& source) const {
  if (!tokenizer_) return usage_error("grammars need a tokenizer, which the model does not have");
  {
    const std::scoped_lock lock(compiler_mutex_);
    if (!compiler_) {
      HADAL_TRY(compiler_, GrammarCompiler::create(*tokenizer_, tokenizer_->ending()));
    }
  }
  return compiler_->compile(source);
}

Status Session::constrain(Request& request, const AnswerOptions& options, const ChatRequest* chat,
                          const Prompt* prompt) const {
  AnswerRules rules;
  std::optional<GrammarSource> source;
  if (options.shape) source = source_of(*options.shape);
  if (chat) {
    HADAL_TRY(const ChatFormat* format, chat_format());
    rules.thought = thought_at(*format, *chat, *prompt);
    if (rules.thought != ThoughtAt::kNone) rules.thinking_budget = options.thinking_budget;
    const auto calls = calls_of(*chat, options, *format);
    if (calls && (source || options.grammar))
      return usage_error(
          "a shape of the answer and tools that must be called, or are strict, cannot be asked for "
          "together");
    if (calls) source = calls;
  }
  if (!source && !options.grammar && !rules.thinking_budget) return {};
  if (!tokenizer_) return usage_error("grammars need a tokenizer, which the model does not have");
  rules.grammar = options.grammar;
  if (source) {
    HADAL_TRY(rules.grammar, compile(*source));
  }
  request.constraint = [tokenizer = tokenizer_.get(), rules] {
    return make_answer_constraint(*tokenizer, rules);
  };
  return {};
}

Status Session::check_length(int64_t prompt, int64_t answer) const {
  if (prompt + answer <= engine_->longest()) return {};
  return memory_error("the prompt has " + std::to_string(prompt) + " tokens, the " +
                      (engine_->longest() < engine_->runner().context() ? "cache" : "context") +
                      " holds " + std::to_string(engine_->longest()) +
                      (answer > 0 ? ": no room for an answer" : ""));
}

Status Session::check_text(size_t bytes) const {
  if (!tokenizer_) return {};
  const int64_t least = tokenizer_->least_tokens(bytes);
  if (least <= engine_->longest()) return {};
  return memory_error("the prompt has more than " + std::to_string(least) +
                      " tokens, the context holds " + std::to_string(engine_->longest()));
}

Result<PreparedRequest> Session::prepare_chat(ChatRequest chat,
                                              const AnswerOptions& options) const {
  HADAL_TRY(const ChatFormat* format, chat_format());
  chat.chat_template = checkpoint_->tokenizer().chat_template;
  chat.shape_is_held = options.shape.has_value();
  HADAL_TRY(const Prompt prompt, format->render(chat, tokenizer_.get()));
  size_t bytes = 0;
  for (const PromptPiece& piece : prompt.pieces) bytes += piece.text.size();
  HADAL_TRY(check_text(bytes));
  std::vector<TokenId> ids = encode_prompt(prompt, *tokenizer_);
  const auto size = static_cast<int64_t>(ids.size());
  HADAL_TRY(check_length(size, 1));
  PreparedRequest prepared;
  HADAL_TRY(prepared.request, request_of(std::move(ids), options, format->name));
  HADAL_TRY(constrain(prepared.request, options, &chat, &prompt));
  prepared.prompt = prepared.request.prompt;
  std::vector<TokenId>& ending = prepared.request.ending;
  if (!options.ignore_ending)
    for (const std::string_view stop : format->stops)
      if (const auto id = tokenizer_->id_of(stop)) ending.push_back(*id);
  for (int64_t i = 0; i < options.n; ++i) {
    HADAL_TRY(std::unique_ptr<OutputParser> parser,
              make_output_parser(format->output_parser, prompt.thinking,
                                 prompt.continues ? AnswerStart::kContinued : AnswerStart::kNew));
    prepared.answers.emplace_back(
        AnswerStream(*tokenizer_, std::move(parser),
                     {.stop = options.stop, .ending = ending, .show_special = true}),
        AnswerBuilder::Options{.prompt_tokens = size,
                               .ending = ending,
                               .tokens = options.logprobs,
                               .one_call = !options.parallel_tool_calls});
  }
  return prepared;
}

Result<PreparedRequest> Session::prepare_ids(std::vector<TokenId> ids,
                                             const AnswerOptions& options) const {
  PreparedRequest prepared;
  const auto size = static_cast<int64_t>(ids.size());
  HADAL_TRY(check_length(size, 0));
  HADAL_TRY(prepared.request, request_of(std::move(ids), options, ""));
  HADAL_TRY(constrain(prepared.request, options, nullptr, nullptr));
  prepared.prompt = prepared.request.prompt;
  if (options.prompt_logprobs) score_prompt(prepared, options.top_logprobs);
  for (int64_t i = 0; i < options.n; ++i) {
    std::optional<AnswerStream> stream;
    if (tokenizer_)
      stream.emplace(*tokenizer_, nullptr,
                     AnswerStreamOptions{.stop = options.stop, .ending = prepared.request.ending});
    prepared.answers.emplace_back(
        std::move(stream),
        AnswerBuilder::Options{
            .prompt_tokens = size, .ending = prepared.request.ending, .tokens = options.logprobs});
  }
  return prepared;
}

}  // namespace hadal
