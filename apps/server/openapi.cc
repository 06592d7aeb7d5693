#include "server/openapi.h"

#include <cctype>
#include <map>
#include <set>

#include "hadal/version.h"
#include "server/api.h"
#include "server/openapi_fields.h"
#include "server/pages.h"

namespace hadal::server {

const Limit* find_limit(std::string_view name) {
  for (const Limit& row : kLimits)
    if (row.name == name) return &row;
  return nullptr;
}

std::string field_range(const ApiField& field) {
  const Limit* row = find_limit(field.limit);
  if (!row) return {};
  const std::string low = row->whole ? std::to_string(row->least) : detail::plain(row->low);
  const std::string high = row->whole ? std::to_string(row->most) : detail::plain(row->high);
  const std::string range = ", " + (field.may_be_empty ? "0" : low) + " to " + high;
  if (row->of == LimitOf::kItems) return range + " entries";
  if (row->of == LimitOf::kBytes) return range + " bytes";
  return range;
}

std::optional<double> field_default(const ApiField& field) {
  const Limit* row = find_limit(field.limit);
  // A field that borrows another's row has its own default, if any.
  const std::string_view own = field.name.substr(field.name.rfind('.') + 1);
  if (!row || row->of != LimitOf::kNumber || row->name != own) return std::nullopt;
  return row->standard;
}

namespace {

/// A number as the row has it: whole, or not.
Json number_of(const Limit& row, double value) {
  if (row.whole) return static_cast<int64_t>(value);
  return value;
}

/// Only what a row allows and nothing else. Bytes of a text are no fewer than its characters, so
/// that the bound of the one holds for the other.
void bound(Json& schema, const Limit& row, std::string_view type) {
  const bool object = type.find("object") != std::string_view::npos;
  const char* low = "minimum";
  const char* high = "maximum";
  if (row.of == LimitOf::kItems) {
    low = object ? "minProperties" : "minItems";
    high = object ? "maxProperties" : "maxItems";
  } else if (row.of == LimitOf::kBytes) {
    low = "minLength";
    high = "maxLength";
  }
  schema[low] = row.whole ? Json(row.least) : Json(row.low);
  schema[high] = row.whole ? Json(row.most) : Json(row.high);
}

/// The schema of an entry of a list or an object, by the row "name[]"; null if there is none.
Json entry_schema(std::string_view list) {
  const Limit* row = find_limit(std::string(list) + "[]");
  if (!row || row->of == LimitOf::kItems) return nullptr;
  const char* type = row->of == LimitOf::kBytes ? "string" : row->whole ? "integer" : "number";
  Json schema = {{"type", type}};
  bound(schema, *row, type);
  return schema;
}

/// A text, ids, or a list of these.
Json prompt_schema() {
  Json ids = {{"type", "array"}, {"items", entry_schema("prompt[]")}};
  bound(ids, limit("prompt[]"), "array");
  const Json text = {{"type", "string"}};
  Json list = {{"type", "array"}, {"items", {{"anyOf", Json::array({text, ids})}}}};
  bound(list, limit("prompt"), "array");
  return {{"anyOf", Json::array({text, std::move(ids), std::move(list)})}};
}

/// Null stands for a field that is left out, so that one that may be may be null.
Json type_schema(const ApiField& field) {
  Json types = Json::array();
  for (std::string_view rest = field.type; !rest.empty();) {
    const std::string_view one = rest.substr(0, rest.find('|'));
    types.push_back(one);
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
  }
  if (!field.required) types.push_back("null");
  return types.size() == 1 ? types[0] : types;
}

Json field_schema(const ApiField& field) {
  Json schema = Json::object();
  if (field.limit == "prompt") {
    schema = prompt_schema();
  } else {
    if (field.type != "any") schema["type"] = type_schema(field);
    const Limit* row = find_limit(field.limit);
    if (row) {
      bound(schema, *row, field.type);
      if (field.may_be_empty) schema["minItems"] = 0;
      if (const auto standard = field_default(field))
        schema["default"] = number_of(*row, *standard);
    }
    if (Json entry = row ? entry_schema(row->name) : Json(); !entry.is_null()) {
      const bool object = field.type.find("object") != std::string_view::npos;
      // Of a list that may be a single text, that text.
      if (field.type.find("string") != std::string_view::npos)
        for (const char* key : {"minLength", "maxLength"}) schema[key] = entry[key];
      schema[object ? "additionalProperties" : "items"] = std::move(entry);
    }
  }
  schema["description"] = field.text;
  return schema;
}

/// Where a field stands: "messages[].role" is "role" of the entries of "messages".
Json& holder_of(Json& root, std::string_view& path) {
  Json* at = &root;
  for (size_t dot = path.find('.'); dot != std::string_view::npos; dot = path.find('.')) {
    std::string_view step = path.substr(0, dot);
    path.remove_prefix(dot + 1);
    const bool list = step.ends_with("[]");
    if (list) step.remove_suffix(2);
    at = &(*at)["properties"][std::string(step)];
    if (!list) continue;
    at = &(*at)["items"];
    (*at)["type"] = "object";
  }
  return *at;
}

}  // namespace

Json group_schema(const FieldGroup& group) {
  Json schema = {{"type", "object"}, {"title", group.title}, {"properties", Json::object()}};
  for (const ApiField& field : group.fields) {
    std::string_view name = field.name;
    Json& holder = holder_of(schema, name);
    holder["properties"][std::string(name)] = field_schema(field);
    if (field.required) holder["required"].push_back(name);
  }
  return schema;
}

namespace {

Json reference(std::string_view kind, std::string_view name) {
  return {{"$ref", "#/components/" + std::string(kind) + "/" + std::string(name)}};
}

Json body_of(const ApiOperation& operation) {
  Json parts = Json::array();
  for (const auto& [group, under] : operation.groups()) {
    Json part = reference("schemas", group->name);
    if (!under.empty()) {
      const Json held = {{"anyOf", Json::array({std::move(part), Json{{"type", "null"}}})}};
      part = {{"type", "object"}, {"properties", {{std::string(under), held}}}};
    }
    parts.push_back(std::move(part));
  }
  Json schema = parts.size() == 1 ? parts[0] : Json{{"allOf", std::move(parts)}};
  return {{"required", true}, {"content", {{"application/json", {{"schema", std::move(schema)}}}}}};
}

// ---- responses

std::string_view error_schema(ApiKind api) {
  switch (api) {
    case ApiKind::kAnthropic:
      return "AnthropicError";
    case ApiKind::kOllama:
      return "OllamaError";
    case ApiKind::kOpenAi:
      break;
  }
  return "OpenAiError";
}

constexpr std::pair<int, std::string_view> kStatuses[] = {
    {400, "The request is refused; the message names the field and what is expected."},
    {401, "The server asks for a key, and the request's is missing or none of its own."},
    {404, "There is no such thing, or no such model."},
    {429, "More is asked than the key, or the server, has room for; Retry-After says when."},
    {503, "The model is being loaded, the server stops, or too many requests wait."},
};

bool may_have(int status, const ApiOperation& operation, const Route& route) {
  const bool body = !operation.groups().empty();
  const bool id = route.path.find("{id}") != std::string_view::npos;
  const bool refused = operation.answer.empty();
  const Endpoint endpoint = operation.endpoint;
  switch (status) {
    case 400:
      return body || id || refused;
    case 401:
      return !route.open;
    case 404:
      return body || id;
    case 429:
      return find_api(endpoint) != nullptr;
    default:
      return endpoint != Endpoint::kAlive && endpoint != Endpoint::kDocs &&
             endpoint != Endpoint::kOpenApi;
  }
}

Json answer_of(const ApiOperation& operation, const Route& route) {
  const bool json = operation.answer == "application/json";
  Json schema = {{"type", json ? "object" : "string"}};
  if (route.open) schema = reference("schemas", "State");
  Json content;
  content[std::string(operation.answer)] = {{"schema", std::move(schema)}};
  if (!operation.stream.empty())
    content[std::string(operation.stream)] = {{"schema", {{"type", "string"}}}};
  return {{"description",
           operation.stream.empty() ? "What was asked for." : "The answer, whole or as a stream."},
          {"content", std::move(content)}};
}

Json responses_of(const ApiOperation& operation, const Route& route) {
  const Json content = {
      {"application/json",
       {{"schema", reference("schemas", route.open ? "State" : error_schema(route.api))}}}};
  Json responses = Json::object();
  if (!operation.answer.empty()) responses["200"] = answer_of(operation, route);
  for (const auto& [status, text] : kStatuses)
    if (may_have(status, operation, route))
      responses[std::to_string(status)] = {{"description", text}, {"content", content}};
  responses["default"] = {
      {"description", "Any other error."},
      {"content",
       {{"application/json", {{"schema", reference("schemas", error_schema(route.api))}}}}}};
  return responses;
}

// ---- operations

Json parameter(std::string_view name, const char* in, Json schema, std::string_view text) {
  return {{"name", name},
          {"in", in},
          {"required", std::string_view(in) == "path"},
          {"schema", std::move(schema)},
          {"description", text}};
}

Json parameters_of(const Route& route) {
  Json list = Json::array();
  if (route.path.find("{id}") != std::string_view::npos)
    list.push_back(
        parameter("id", "path", {{"type", "string"}},
                  route.endpoint == Endpoint::kModel ? "Name of a model." : "Id of a response."));
  if (route.endpoint != Endpoint::kResponseItems) return list;
  list.push_back(parameter("limit", "query",
                           {{"type", "integer"}, {"minimum", 1}, {"maximum", 100}, {"default", 20}},
                           "Most items."));
  list.push_back(parameter("order", "query",
                           {{"type", "string"}, {"enum", {"asc", "desc"}}, {"default", "desc"}},
                           "The newest item last, or first."));
  list.push_back(parameter("after", "query", {{"type", "string"}},
                           "Id of the item behind which the list begins."));
  return list;
}

/// Whose API a path is of, for people.
std::string_view tag_of(const Route& route) {
  if (route.api == ApiKind::kAnthropic) return "Anthropic";
  if (route.api == ApiKind::kOllama) return "Ollama";
  switch (route.endpoint) {
    case Endpoint::kModels:
    case Endpoint::kModel:
    case Endpoint::kChat:
    case Endpoint::kCompletions:
    case Endpoint::kResponses:
    case Endpoint::kResponse:
    case Endpoint::kResponseDelete:
    case Endpoint::kResponseItems:
    case Endpoint::kResponseCancel:
    case Endpoint::kEmbeddings:
      return "OpenAI";
    default:
      return "Hadal";
  }
}

/// Unique: other paths of the same endpoint have theirs behind the name.
std::string id_of(const ApiOperation& operation, const Route& route, bool first) {
  std::string id(operation.name);
  if (first) return id;
  for (const char c : route.path)
    if (std::isalnum(static_cast<unsigned char>(c)) != 0)
      id += c;
    else if (!id.ends_with('_'))
      id += '_';
  while (id.ends_with('_')) id.pop_back();
  return id;
}

Json operation_json(const Route& route, bool first) {
  const ApiOperation& operation = operation_of(route.endpoint);
  Json json;
  json["operationId"] = id_of(operation, route, first);
  json["tags"] = Json::array({tag_of(route)});
  json["summary"] = operation.title;
  json["description"] = operation.text;
  if (Json parameters = parameters_of(route); !parameters.empty())
    json["parameters"] = std::move(parameters);
  if (!operation.groups().empty()) json["requestBody"] = body_of(operation);
  json["responses"] = responses_of(operation, route);
  if (route.open) json["security"] = Json::array();
  return json;
}

Json paths_json() {
  Json paths = Json::object();
  std::set<Endpoint> seen;
  for (const Route& route : routes()) {
    std::string method(route.method);
    for (char& c : method) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const bool first = seen.insert(route.endpoint).second;
    paths[std::string(route.path)][method] = operation_json(route, first);
  }
  return paths;
}

// ---- the rest

Json text_schema() { return {{"type", "string"}}; }

/// An object of these members, all of which are there.
Json object_schema(Json properties) {
  Json required = Json::array();
  for (const auto& [name, schema] : properties.items()) required.push_back(name);
  return {
      {"type", "object"}, {"properties", std::move(properties)}, {"required", std::move(required)}};
}

Json schemas_json() {
  Json schemas;
  for (const ApiOperation& operation : api_operations())
    for (const GroupUse& use : operation.groups())
      schemas[std::string(use.group->name)] = group_schema(*use.group);
  schemas["State"] = object_schema({{"status", text_schema()}});
  const Json text_or_null = {{"type", {"string", "null"}}};
  schemas["OpenAiError"] = object_schema({{"error", object_schema({{"message", text_schema()},
                                                                   {"type", text_schema()},
                                                                   {"param", text_or_null},
                                                                   {"code", text_schema()}})}});
  Json anthropic = object_schema(
      {{"type", {{"const", "error"}}},
       {"error", object_schema({{"type", text_schema()}, {"message", text_schema()}})}});
  anthropic["properties"]["request_id"] = text_schema();
  schemas["AnthropicError"] = std::move(anthropic);
  schemas["OllamaError"] = object_schema({{"error", text_schema()}});
  return schemas;
}

Json document() {
  Json json;
  json["openapi"] = "3.1.0";
  json["info"] = {
      {"title", "Hadal"},
      {"version", HADAL_VERSION},
      {"description",
       "One model by the APIs of OpenAI, DeepSeek, Anthropic and Ollama. What lies beyond a "
       "field's range is refused with its name. A field that is null is the same as one left out. "
       "Fields that nobody knows are let pass. Lengths of texts are counted in bytes of UTF-8. "
       "HEAD is answered where GET is. A server that was started without keys asks for none."}};
  json["servers"] = Json::array({{{"url", "/"}}});
  json["security"] = Json::array({{{"bearer", Json::array()}}, {{"xApiKey", Json::array()}}});
  json["tags"] = Json::array();
  for (const char* tag : {"OpenAI", "Anthropic", "Ollama", "Hadal"})
    json["tags"].push_back({{"name", tag}});
  json["paths"] = paths_json();
  json["components"]["schemas"] = schemas_json();
  json["components"]["securitySchemes"] = {
      {"bearer", {{"type", "http"}, {"scheme", "bearer"}}},
      {"xApiKey", {{"type", "apiKey"}, {"in", "header"}, {"name", "x-api-key"}}}};
  return json;
}

}  // namespace

std::string openapi_json() {
  static const std::string text = document().dump();
  return text;
}

}  // namespace hadal::server
