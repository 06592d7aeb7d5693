#include "server/model_card.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <map>

#include "checkpoint/digest.h"
#include "text/chat/fim.h"

namespace hadal::server {
namespace {

constexpr std::string_view kLatest = ":latest";

std::string_view without_latest(std::string_view name) {
  return name.ends_with(kLatest) ? name.substr(0, name.size() - kLatest.size()) : name;
}

/// When the file was last written, in seconds since 1970.
int64_t written_at(const std::filesystem::path& path) {
  std::error_code error;
  const auto time = std::filesystem::last_write_time(path, error);
  if (error) return 0;
  const int64_t seconds = std::chrono::duration_cast<std::chrono::seconds>(
                              std::chrono::file_clock::to_sys(time).time_since_epoch())
                              .count();
  // What a file system can hold and a date of four digits cannot is no date.
  return std::clamp(seconds, int64_t{0}, int64_t{9'000'000'000});
}

/// Who quantized a GGUF says how; elsewhere it is what most bytes are.
std::string quantization_of(const Checkpoint& checkpoint) {
  for (const auto& [key, value] : checkpoint.metadata()) {
    if (key != "general.file_type") continue;
    int64_t type = -1;
    std::from_chars(value.data(), value.data() + value.size(), type);
    if (const std::string_view name = gguf_file_type(type); !name.empty()) return std::string(name);
  }
  std::map<DType, uint64_t> bytes;
  for (const TensorInfo& tensor : checkpoint.tensors()) bytes[tensor.dtype] += tensor.data.size();
  const auto most = std::max_element(
      bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? std::string() : std::string(type_in_words(most->first));
}

/// Whether the format takes a chat with this.
bool renders(const ChatFormat& format, ChatRequest chat, const Tokenizer* tokenizer) {
  chat.messages.push_back({.role = "user", .content = "a"});
  return format.render(chat, tokenizer).has_value();
}

void describe_text(const Session& session, ModelCard& card) {
  card.chat_template = session.checkpoint().tokenizer().chat_template;
  const Tokenizer* tokenizer = session.tokenizer();
  if (!tokenizer) return;
  card.vocabulary = tokenizer->vocab_size();
  card.fills_middle = render_fim("a", "b", *tokenizer).has_value();
  const auto format = session.chat_format();
  if (!format) return;
  card.chat_format = (*format)->name;
  card.thinks = (*format)->output_parser.starts_with("think");
  card.calls_tools = renders(
      **format,
      {.tools_json = R"([{"type":"function","function":{"name":"f","description":"f","parameters":)"
                     R"({"type":"object","properties":{}}}}])"},
      tokenizer);
}

}  // namespace

std::string_view gguf_file_type(int64_t type) {
  constexpr std::array<std::string_view, 39> kNames = {
      "F32",    "F16",    "Q4_0",  "Q4_1",    "",       "",       "",       "Q8_0",
      "Q5_0",   "Q5_1",   "Q2_K",  "Q3_K_S",  "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M",
      "Q5_K_S", "Q5_K_M", "Q6_K",  "IQ2_XXS", "IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS",
      "IQ1_S",  "IQ4_NL", "IQ3_S", "IQ3_M",   "IQ2_S",  "IQ2_M",  "IQ4_XS", "IQ1_M",
      "BF16",   "",       "",      "",        "TQ1_0",  "TQ2_0",  "MXFP4"};
  return type >= 0 && type < static_cast<int64_t>(kNames.size()) ? kNames[static_cast<size_t>(type)]
                                                                 : std::string_view();
}

std::string_view type_in_words(DType type) {
  if (type == HADAL_F8_E4M3 || type == HADAL_F8_E5M2) return "FP8";
  if (type == HADAL_F4_E2M1) return "FP4";
  return dtype_name(type);
}

std::string parameter_size(int64_t parameters) {
  const auto number = static_cast<double>(parameters);
  std::array<char, 32> text{};
  if (number >= 1e12)
    std::snprintf(text.data(), text.size(), "%.1fT", number / 1e12);
  else if (number >= 1e9)
    std::snprintf(text.data(), text.size(), "%.1fB", number / 1e9);
  else if (number >= 1e6)
    std::snprintf(text.data(), text.size(), "%.2fM", number / 1e6);
  else
    std::snprintf(text.data(), text.size(), "%.0fK", number / 1e3);
  return text.data();
}

ModelCard describe_model(const Session& session, std::string name) {
  const Checkpoint& checkpoint = session.checkpoint();
  const ModelSpec& spec = session.engine().spec();
  ModelCard card{.name = std::move(name)};
  for (const NamedAdapter& adapter : session.engine().runner().adapters())
    if (!adapter.empty()) card.adapters.push_back(adapter.name);
  card.digest = hex(model_digest(checkpoint));
  card.family = spec.family;
  for (const TensorInfo& tensor : checkpoint.tensors()) card.parameters += tensor.elements();
  card.parameter_size = parameter_size(card.parameters);
  card.quantization = quantization_of(checkpoint);
  card.format = checkpoint.format() == CheckpointFormat::kGguf ? "gguf" : "safetensors";
  for (const MappedFile& file : checkpoint.files()) {
    card.bytes += static_cast<int64_t>(file.bytes().size());
    card.created = std::max(card.created, written_at(file.path()));
  }
  card.context_length = spec.max_position_embeddings;
  card.served_context = session.engine().longest();
  card.embedding_length = spec.hidden_size;
  card.layers = spec.num_hidden_layers;
  card.vocabulary = spec.vocab_size;
  card.fields = spec.fields;
  describe_text(session, card);
  return card;
}

bool names_model(const ModelCard& card, std::string_view asked) {
  const std::string_view name = without_latest(asked);
  const auto same = [&](std::string_view own) {
    return !own.empty() && (own == asked || without_latest(own) == name);
  };
  return same(card.name) || std::any_of(card.aliases.begin(), card.aliases.end(), same) ||
         std::any_of(card.adapters.begin(), card.adapters.end(), same);
}

}  // namespace hadal::server
