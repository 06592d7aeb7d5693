#include "server/ollama_models.h"

#include <algorithm>

#include "hadal/version.h"
#include "server/ollama_requests.h"

namespace hadal::server {
namespace {

/// When what is served without end expires: dates of JSON have no "never".
constexpr std::string_view kNever = "9999-12-31T23:59:59Z";
constexpr int64_t kSecond = 1'000'000'000;

/// Ollama's names: with ":latest" or without. Which adapter is asked for, "" if none.
std::string adapter_of(const ModelCard& card, std::string_view asked) {
  for (const std::string& adapter : card.adapters)
    if (tagged(adapter) == tagged(asked)) return adapter;
  return {};
}

Json details_json(const ModelCard& card, bool adapter) {
  Json json;
  json["parent_model"] = adapter ? tagged(card.name) : "";
  json["format"] = card.format;
  json["family"] = card.family;
  json["families"] = Json::array({card.family});
  json["parameter_size"] = card.parameter_size;
  json["quantization_level"] = card.quantization;
  return json;
}

Json head_json(const std::string& name) {
  Json json;
  json["name"] = tagged(name);
  json["model"] = tagged(name);
  return json;
}

Json capabilities_json(const ModelCard& card) {
  Json list = Json::array({"completion"});
  if (card.calls_tools) list.push_back("tools");
  if (card.fills_middle) list.push_back("insert");
  if (card.thinks) list.push_back("thinking");
  return list;
}

Json info_json(const ModelCard& card, bool verbose) {
  Json json;
  json["general.architecture"] = card.family;
  json["general.basename"] = card.name;
  json["general.parameter_count"] = card.parameters;
  json[card.family + ".block_count"] = card.layers;
  json[card.family + ".context_length"] = card.context_length;
  json[card.family + ".embedding_length"] = card.embedding_length;
  json[card.family + ".vocab_size"] = card.vocabulary;
  json["hadal.context_length"] = card.served_context;
  json["hadal.chat_format"] = card.chat_format;
  if (verbose)
    for (const auto& [name, value] : card.fields) json["config." + name] = value;
  return json;
}

}  // namespace

std::string tagged(std::string_view name) {
  const size_t slash = name.rfind('/');
  const size_t colon = name.find(':', slash == std::string_view::npos ? 0 : slash);
  return std::string(name) + (colon == std::string_view::npos ? ":latest" : "");
}

Result<OllamaShow> read_ollama_show(const Json& body) {
  if (!body.is_object()) return wrong_type("", "an object", body);
  Fields fields(body, "");
  OllamaShow show;
  HADAL_TRY(show.model, fields.text("model", limit("model")));
  HADAL_TRY(const std::string older, fields.text("name", limit("model")));
  if (show.model.empty()) show.model = older;
  if (show.model.empty()) return usage_error("model: is missing; /api/tags lists what there is");
  HADAL_TRY(show.verbose, fields.flag("verbose", false));
  return show;
}

std::string tags_body(const ModelCard& card) {
  Json list = Json::array();
  const auto add = [&](const std::string& name, bool adapter) {
    Json json = head_json(name);
    json["modified_at"] = rfc3339(card.created * kSecond);
    json["size"] = card.bytes;
    json["digest"] = card.digest;
    json["details"] = details_json(card, adapter);
    list.push_back(std::move(json));
  };
  add(card.name, false);
  for (const std::string& adapter : card.adapters) add(adapter, true);
  return json_text({{"models", std::move(list)}});
}

std::string ps_body(const ModelCard& card, const ServedMemory& memory) {
  Json json = head_json(card.name);
  json["size"] = memory.bytes;
  json["digest"] = card.digest;
  json["details"] = details_json(card, false);
  json["expires_at"] = kNever;
  json["size_vram"] = memory.on_accelerator;
  json["context_length"] = card.served_context;
  return json_text({{"models", Json::array({std::move(json)})}});
}

std::string show_body(const ModelCard& card, bool verbose, std::string_view asked) {
  const std::string adapter = adapter_of(card, asked);
  Json json;
  json["modelfile"] = "FROM " + tagged(card.name) + "\n" +
                      (adapter.empty() ? std::string() : "ADAPTER " + adapter + "\n");
  json["parameters"] = "num_ctx " + std::to_string(card.served_context);
  json["template"] = card.chat_template;
  json["details"] = details_json(card, !adapter.empty());
  json["model_info"] = info_json(card, verbose);
  json["capabilities"] = capabilities_json(card);
  json["modified_at"] = rfc3339(card.created * kSecond);
  return json_text(json);
}

std::string version_body() {
  return json_text({{"version", kOllamaVersion}, {"hadal", HADAL_VERSION}});
}

}  // namespace hadal::server
