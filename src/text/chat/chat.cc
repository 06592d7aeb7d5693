#include "text/chat/chat.h"

#include <array>

#include "checkpoint/printable.h"
#include "text/chat/format.h"

namespace hadal {
namespace {

constexpr std::array<std::string_view, 1> kChatmlStops = {"<|im_end|>"};
constexpr std::array<std::string_view, 2> kLlama3Stops = {"<|eot_id|>", "<|eom_id|>"};
constexpr std::array<std::string_view, 1> kDeepSeekStops = {"<｜end▁of▁sentence｜>"};
constexpr std::array<std::string_view, 2> kCoderStops = {"<|EOT|>", "<｜end▁of▁sentence｜>"};
/// Behind a turn's end nothing but the next user's turn may follow: a model that forgets the former
/// is stopped by the latter.
constexpr std::array<std::string_view, 2> kTurnStops = {"<｜end▁of▁sentence｜>", "<｜User｜>"};

constexpr std::array<ChatFormat, 13> kFormats = {{
    {"chatml", "<|im_start|>: SmolLM2, Qwen2, Qwen2.5", chat::recognises_chatml,
     chat::render_chatml, "text", kChatmlStops},
    {"llama3", "Llama 3 to 3.3 Instruct", chat::recognises_llama3, chat::render_llama3, "text",
     kLlama3Stops},
    {"qwen3", "Qwen3, thinking or not", chat::recognises_qwen3, chat::render_qwen3, "think",
     kChatmlStops},
    {"deepseek-llm", "DeepSeek LLM-Chat, MoE-Chat, V2-Chat, Coder-V2-Instruct",
     chat::recognises_deepseek_llm, chat::render_deepseek_llm, "text", kDeepSeekStops},
    {"deepseek-coder", "DeepSeek-Coder-Instruct (v1)", chat::recognises_deepseek_coder,
     chat::render_deepseek_coder, "text", kCoderStops},
    {"deepseek-v2.5", "DeepSeek-V2.5", chat::recognises_deepseek_v25, chat::render_deepseek_v25,
     "deepseek-tools", kTurnStops},
    {"deepseek-v3", "DeepSeek-V3, V3-0324", chat::recognises_deepseek_v3, chat::render_deepseek_v3,
     "deepseek-tools", kTurnStops},
    {"deepseek-r1", "DeepSeek-R1, R1-Distill-*", chat::recognises_deepseek_r1,
     chat::render_deepseek_r1, "think-deepseek-tools", kTurnStops},
    {"deepseek-r1-0528", "DeepSeek-R1-0528, R1-0528-Qwen3-8B", chat::recognises_deepseek_r1_0528,
     chat::render_deepseek_r1_0528, "think-deepseek-tools", kTurnStops},
    {"deepseek-v3.1", "DeepSeek-V3.1, V3.1-Terminus, thinking or not",
     chat::recognises_deepseek_v31, chat::render_deepseek_v31, "think-deepseek-v3.1-tools",
     kTurnStops},
    {"deepseek-v3.2", "DeepSeek-V3.2, thinking or not", chat::recognises_deepseek_v32,
     chat::render_deepseek_v32, "think-dsml-function-calls", kTurnStops, "deepseek_v32"},
    {"deepseek-v4", "DeepSeek-V4, thinking or not", chat::recognises_deepseek_v4,
     chat::render_deepseek_v4, "think-dsml-tool-calls", kTurnStops, "deepseek_v4"},
    {"deepseek-v4.1", "DeepSeek-V4.1, thinking or not", chat::recognises_deepseek_v41,
     chat::render_deepseek_v41, "think-dsml-calls", kTurnStops, "deepseek_v41"},
}};

std::string names() {
  std::string text;
  for (const ChatFormat& format : kFormats)
    text += (text.empty() ? "" : ", ") + std::string(format.name);
  return text;
}

struct Mark {
  std::string_view text, family;
  std::string_view also = {};  ///< a second text that the template must contain
};

/// Families known by sight, most telling mark first.
constexpr std::array<Mark, 15> kMarks = {{
    {"｜DSML｜", "DeepSeek-V3.2 or later"},
    {"<｜tool▁sep｜>", "DeepSeek-V3.1", "not thinking"},
    {"<｜tool▁calls▁begin｜>", "DeepSeek with tool calls"},
    {"<｜User｜>", "DeepSeek"},
    {"<|channel|>", "gpt-oss"},
    {"<|start_header_id|>", "Llama 3"},
    {"<|header_start|>", "Llama 4"},
    {"<start_of_turn>", "Gemma"},
    {"<|im_start|>", "ChatML"},
    {"<|im_middle|>", "Kimi"},
    {"[gMASK]", "GLM"},
    {"[INST]", "Mistral or Llama 2"},
    {"<|START_OF_TURN_TOKEN|>", "Command R"},
    {"<|start_of_role|>", "Granite"},
    {"<|user|>", "Phi, Zephyr or GLM"},
}};

std::string what_was_seen(std::string_view chat_template) {
  for (const Mark& mark : kMarks)
    if (chat::contains_all(chat_template, {mark.text, mark.also}))
      return "it has the mark " + std::string(mark.text) + " (" + std::string(mark.family) +
             ") but is none of the known variants";
  return "it begins with " + quote(chat_template, 60);
}

/// What may be an added token: a marker of a format is <…> without < or > inside, or ｜DSML｜.
/// Empty where none is left.
std::string_view first_mark(std::string_view text) {
  constexpr std::string_view kDsml = "｜DSML｜";
  const size_t dsml = text.find(kDsml);
  for (size_t begin = text.find('<'); begin < dsml; begin = text.find('<', begin + 1)) {
    const size_t end = text.find_first_of("<>", begin + 1);
    if (end != std::string_view::npos && text[end] == '>')
      return text.substr(begin, end + 1 - begin);
  }
  return dsml == std::string_view::npos ? std::string_view() : text.substr(dsml, kDsml.size());
}

}  // namespace

std::string Prompt::text() const {
  std::string all;
  for (const PromptPiece& piece : pieces) all += piece.text;
  return all;
}

std::span<const ChatFormat> chat_formats() { return kFormats; }

const ChatFormat* find_chat_format(std::string_view name) {
  for (const ChatFormat& format : kFormats)
    if (format.name == name) return &format;
  return nullptr;
}

Result<const ChatFormat*> detect_chat_format(const TokenizerData& data,
                                             std::string_view model_type) {
  const std::string remedy = "; choose one with --chat-format: " + names();
  if (data.chat_template.empty()) {
    for (const ChatFormat& format : kFormats)
      if (!model_type.empty() && format.model_type == model_type) return &format;
    const std::string type =
        model_type.empty() ? "" : " (model type " + printable(model_type) + ")";
    return failed("the model" + type +
                  " has no chat template: it is a base model, which continues text, or the "
                  "template was left out" +
                  remedy);
  }
  for (const ChatFormat& format : kFormats)
    if (format.recognises(data.chat_template)) return &format;
  return failed("the model's chat template is unknown: " + what_was_seen(data.chat_template) +
                remedy);
}

std::vector<TokenId> encode_prompt(const Prompt& prompt, const Tokenizer& tokenizer) {
  const Tokenizer::EncodeOptions plain{.added_tokens = false, .bos = false};
  std::vector<TokenId> ids;
  std::string run;
  const auto flush = [&] {
    const std::vector<TokenId> more = tokenizer.encode(run, plain);
    ids.insert(ids.end(), more.begin(), more.end());
    run.clear();
  };
  /// The id of `mark` if the vocabulary holds it as one entry, whatever type that entry has; but
  /// what the merges make of it anyway stays in the text around it.
  const auto entry = [&](std::string_view mark) -> std::optional<TokenId> {
    const std::optional<TokenId> id = tokenizer.id_of(mark);
    if (!id || tokenizer.is_special(*id)) return id;
    return tokenizer.encode(mark, plain) != std::vector<TokenId>{*id} ? id : std::nullopt;
  };
  for (const PromptPiece& piece : prompt.pieces) {
    std::string_view rest = piece.text;
    while (piece.control && !rest.empty()) {
      const std::string_view mark = first_mark(rest);
      if (mark.empty()) break;
      const std::optional<TokenId> id = entry(mark);
      const size_t before = static_cast<size_t>(mark.data() - rest.data());
      run += rest.substr(0, before);
      if (id) {
        flush();
        ids.push_back(*id);
      } else {
        run += mark.front();
      }
      rest.remove_prefix(before + (id ? mark.size() : 1));
    }
    run += rest;
  }
  flush();
  return ids;
}

}  // namespace hadal
