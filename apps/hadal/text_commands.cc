// hadal tokenize, encode, parse: the text side alone, a line in and a line out.
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "session/session.h"
#include "text/chat/chat.h"
#include "text/chat/fim.h"
#include "text/chat/request_json.h"
#include "text/output/output.h"

namespace hadal::app {

std::string chat_format_help(std::string_view what) {
  std::string text(what);
  for (const ChatFormat& f : chat_formats())
    text += "\n" + std::string(f.name) + ": " + std::string(f.description);
  return text;
}

namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

/// Calls `work` for each line of standard input and hands over what it printed; its error names the
/// line.
template <typename Work>
Status each_line(Output& out, Work work) {
  std::string line;
  for (int64_t number = 1; std::getline(std::cin, line); ++number) {
    if (line.empty()) continue;
    if (Status status = work(line); !status) {
      Error error = std::move(status).error();
      error.message = "line " + std::to_string(number) + ": " + error.message;
      return error;
    }
    HADAL_TRY(out.flush());
  }
  return {};
}

/// JSON of one line; nesting beyond what such a line has is refused by the parser's own callback.
Result<Json> parse_line(const std::string& line) {
  bool deep = false;
  Json j = Json::parse(
      line,
      [&deep](int depth, Json::parse_event_t, Json&) {
        deep = deep || depth > 64;
        return !deep;
      },
      false);
  if (deep || j.is_discarded())
    return usage_error(deep ? "JSON nested deeper than 64" : "no valid JSON");
  return j;
}

struct TokenizeOptions {
  std::string model, pre_tokenizer;
  std::optional<std::string> text;
  bool stdin_json = false, plain = false, bos = false, json = false;
};

/// The tokenizer of a model, or of a tokenizer.json by itself.
Result<std::unique_ptr<Tokenizer>> open_tokenizer(const std::string& path,
                                                  const std::string& pre_tokenizer) {
  if (std::filesystem::path(path).extension() == ".json") {
    TokenizerData data;
    HADAL_TRY(data.tokenizer_json, read_text_file(path));
    const auto config = std::filesystem::path(path).parent_path() / "tokenizer_config.json";
    std::error_code ignored;
    if (std::filesystem::exists(config, ignored)) {
      HADAL_TRY(data.tokenizer_config_json, read_text_file(config));
    }
    return Tokenizer::create(data, path);
  }
  HADAL_TRY(const std::unique_ptr<Checkpoint> checkpoint,
            Checkpoint::open(path, {.pre_tokenizer = pre_tokenizer}));
  if (checkpoint->tokenizer().empty()) return failed(path + ": has no tokenizer");
  HADAL_TRY(std::unique_ptr<Tokenizer> tokenizer, Tokenizer::create(checkpoint->tokenizer(), path));
  print_notes(checkpoint->notes());
  return tokenizer;
}

Status run_tokenize(const TokenizeOptions& o, Output& out) {
  if (o.stdin_json == o.text.has_value()) return usage_error("give either --text or --stdin-json");
  HADAL_TRY(const std::unique_ptr<Tokenizer> tokenizer, open_tokenizer(o.model, o.pre_tokenizer));
  const Tokenizer::EncodeOptions encode{.added_tokens = !o.plain, .bos = o.bos};
  if (o.stdin_json)
    return each_line(out, [&](const std::string& line) -> Status {
      HADAL_TRY(const Json text, parse_line(line));
      if (!text.is_string()) return usage_error("a JSON string is expected");
      out.print("{}\n", dump(Json(tokenizer->encode(text.get<std::string>(), encode))));
      return {};
    });
  const std::vector<TokenId> ids = tokenizer->encode(*o.text, encode);
  if (o.json) {
    out.print("{}\n", dump(Json(ids)));
    return {};
  }
  for (const TokenId id : ids) out.print("{:8}  {}\n", id, dump(Json(tokenizer->token_bytes(id))));
  out.print("{} tokens\n", ids.size());
  return {};
}

/// {"prompt", "suffix"}: fill in the middle. Nothing for a line with messages.
Result<std::optional<Prompt>> fim_prompt(const Json& line, const Tokenizer& tokenizer) {
  if (!line.is_object() || line.contains("messages") || !line.contains("suffix"))
    return std::optional<Prompt>();
  for (const char* key : {"prompt", "suffix"})
    if (!line.contains(key) || !line[key].is_string())
      return usage_error(std::string(key) + ": a text is expected beside prompt and suffix");
  HADAL_TRY(Prompt prompt, render_fim(line["prompt"].get<std::string>(),
                                      line["suffix"].get<std::string>(), tokenizer));
  return std::optional<Prompt>(std::move(prompt));
}

struct EncodeOptions {
  std::string model, pre_tokenizer, messages = "-";
  std::optional<std::string> chat_format;
};

Status run_encode(const EncodeOptions& o, Output& out) {
  if (o.messages != "-") return usage_error("--messages reads standard input: give -");
  HADAL_TRY(const std::unique_ptr<Checkpoint> checkpoint,
            Checkpoint::open(o.model, {.pre_tokenizer = o.pre_tokenizer}));
  HADAL_TRY(const std::unique_ptr<Tokenizer> tokenizer,
            Tokenizer::create(checkpoint->tokenizer(), o.model));
  HADAL_TRY(const ChatFormat* format, choose_chat_format(o.chat_format, *checkpoint));
  return each_line(out, [&](const std::string& line) -> Status {
    HADAL_TRY(const Json parsed, parse_line(line));
    HADAL_TRY(std::optional<Prompt> middle, fim_prompt(parsed, *tokenizer));
    const bool fill_in = middle.has_value();
    Prompt prompt;
    if (fill_in) {
      prompt = *std::move(middle);
    } else {
      HADAL_TRY(ChatRequest request, parse_chat_request(line));
      request.chat_template = checkpoint->tokenizer().chat_template;
      HADAL_TRY(prompt, format->render(request, tokenizer.get()));
    }
    Json j;
    j["prompt"] = prompt.text();
    j["ids"] = encode_prompt(prompt, *tokenizer);
    j["format"] = fill_in ? "fim" : std::string(format->name);
    out.print("{}\n", dump(j));
    return {};
  });
}

struct ParseOptions {
  std::string format;
  bool thinking = false, no_thinking = false;
};

/// Adds a delta's parts to what was collected.
void collect(const OutputDelta& delta, std::string& reasoning, std::string& content, Json& calls) {
  reasoning += delta.reasoning;
  content += delta.content;
  for (const ToolCall& call : delta.tool_calls)
    calls.push_back({{"name", call.name}, {"arguments", call.arguments}});
}

Status run_parse(const ParseOptions& o, Output& out) {
  HADAL_TRY(const bool usual, output_starts_in_thought(o.format));
  const bool thinking = o.thinking || (usual && !o.no_thinking);
  return each_line(out, [&](const std::string& line) -> Status {
    HADAL_TRY(const Json pieces, parse_line(line));
    if (!pieces.is_array()) return usage_error("a JSON list of text pieces is expected");
    HADAL_TRY(const std::unique_ptr<OutputParser> parser, make_output_parser(o.format, thinking));
    std::string reasoning, content;
    Json calls = Json::array();
    for (const Json& piece : pieces) {
      if (!piece.is_string())
        return usage_error("a JSON list of text pieces is expected, one is no string");
      collect(parser->push(piece.get<std::string>()), reasoning, content, calls);
    }
    collect(parser->finish(), reasoning, content, calls);
    Json j;
    j["reasoning"] = reasoning;
    j["content"] = content;
    j["tool_calls"] = calls;
    out.print("{}\n", dump(j));
    return {};
  });
}

}  // namespace

void add_tokenize(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<TokenizeOptions>();
  CLI::App* c = app.add_subcommand("tokenize", "text to token ids");
  c->add_option("MODEL", o->model, "a model, or a tokenizer.json")->required();
  declare_pre_tokenizer(*c, o->pre_tokenizer);
  c->add_option("--text", o->text, "the text; prints a line a token, id and piece");
  c->add_flag(
      "--stdin-json", o->stdin_json,
      "instead of --text: a JSON string a line on standard input, a JSON list of ids a line out");
  c->add_flag("--plain", o->plain, "do not recognise added tokens in the text");
  c->add_flag("--bos", o->bos, "put the beginning-of-sequence token in front");
  c->add_flag("--json", o->json, "with --text: print the ids as a JSON list");
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run_tokenize(*o, out); }; });
}

void add_encode(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<EncodeOptions>();
  CLI::App* c = app.add_subcommand("encode", "chat messages to prompt and ids");
  c->add_option("MODEL", o->model, "a .gguf file or a model folder")->required();
  declare_pre_tokenizer(*c, o->pre_tokenizer);
  c->add_option("--messages", o->messages,
                "-: a JSON object a line on standard input {messages, tools, thinking, effort, "
                "response_format, add_generation_prompt};\nout: {prompt, ids, format}")
      ->required();
  c->add_option("--chat-format", o->chat_format, chat_format_help());
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run_encode(*o, out); }; });
}

void add_parse(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<ParseOptions>();
  CLI::App* c = app.add_subcommand(
      "parse", "split what a model wrote into reasoning, content and tool calls");
  c->add_option("--format,--chat-format", o->format,
                chat_format_help("the chat format of the model that wrote the text:"))
      ->required();
  c->add_flag("--thinking", o->thinking,
              "the answer starts inside a thought; by default as the format's answers do");
  c->add_flag("--no-thinking", o->no_thinking, "the answer does not start inside a thought");
  c->footer("A JSON list of text pieces a line in; {reasoning, content, tool_calls} a line out.");
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run_parse(*o, out); }; });
}

}  // namespace hadal::app
