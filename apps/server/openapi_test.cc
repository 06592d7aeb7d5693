// The description against the routes, against what the readers of bodies accept, and the pages.
#include "server/openapi.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>

#include "server/anthropic_messages.h"
#include "server/api.h"
#include "server/ollama_models.h"
#include "server/pages.h"

namespace hadal::server {
namespace {

/// Bodies in which every other field may stand.
const std::map<Endpoint, std::string>& base_bodies() {
  static const std::string said = R"("messages":[{"role":"user","content":"a"}],)";
  static const std::string function = R"("tools":[{"type":"function","function":{"name":"f"}}],)";
  static const std::string custom = R"("tools":[{"name":"f","input_schema":{}}])";
  static const std::map<Endpoint, std::string> bodies = {
      {Endpoint::kChat, "{" + said + function + R"("stream":true,"logprobs":true})"},
      {Endpoint::kCompletions, R"({"prompt":"a","stream":true})"},
      {Endpoint::kResponses,
       R"({"input":"a","stream":true,"tools":[{"type":"function","name":"f"}]})"},
      {Endpoint::kInputTokens,
       R"({"input":"a","stream":true,"tools":[{"type":"function","name":"f"}]})"},
      {Endpoint::kMessages, "{" + said + R"("max_tokens":1,)" + custom + "}"},
      {Endpoint::kCountTokens, "{" + said + custom + "}"},
      {Endpoint::kOllamaChat, "{" + said + function + R"("model":"m"})"},
      {Endpoint::kOllamaGenerate, R"({"model":"m","prompt":"a"})"},
      {Endpoint::kOllamaShow, R"({"model":"m"})"},
  };
  return bodies;
}
Json base_of(Endpoint endpoint) { return Json::parse(base_bodies().at(endpoint)); }

/// What the reader of the endpoint did not know, or its error.
Result<std::vector<std::string>> ignored_by(Endpoint endpoint, const Json& body) {
  if (endpoint == Endpoint::kOllamaShow) {
    HADAL_TRY(read_ollama_show(body));
    return std::vector<std::string>();
  }
  if (endpoint == Endpoint::kCountTokens) {
    HADAL_TRY(const ChatCall call, read_count_tokens_call(body));
    return call.ignored;
  }
  const Api* api = find_api(endpoint == Endpoint::kInputTokens ? Endpoint::kResponses : endpoint);
  HADAL_TRY(const auto read,
            api->read(body, {.context = INT32_MAX,
                             .find = [](const std::string&) -> Result<StoredResponse> {
                               return StoredResponse{.response = "{}", .items = "[]"};
                             },
                             .store = {}}));
  return read->common().ignored;
}

struct Described {
  std::string name;  ///< of the body
  ApiField field;
};
std::vector<Described> fields_of(const ApiOperation& operation) {
  std::vector<Described> all;
  for (const auto& [group, under] : operation.groups())
    for (const ApiField& field : group->fields)
      all.push_back(
          {(under.empty() ? "" : std::string(under) + ".") + std::string(field.name), field});
  return all;
}

/// "a.b" and "a[].b"; what is missing on the way is made, of a list the first entry is meant.
void set_at(Json& body, std::string path, const Json& value) {
  Json* at = &body;
  for (size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.')) {
    std::string step = path.substr(0, dot);
    path = path.substr(dot + 1);
    const bool list = step.ends_with("[]");
    if (list) step.resize(step.size() - 2);
    at = &(*at)[step];
    if (list) at = &(*at)[0];
    if (!at->is_object()) *at = Json::object();
  }
  (*at)[path] = value;
}

/// Where a value of a type alone is no sample: what else must stand in the body, and the values.
struct Sample {
  std::string_view name, setup, values;
  std::optional<Endpoint> of = {};
};
constexpr Sample kSamples[] = {
    {"messages", "{}", R"([[{"role":"user","content":"a"}]])"},
    {"messages[].content", "{}", R"(["a",[{"type":"text","text":"a"}]])"},
    {"messages[].content", "{}", R"(["a"])", Endpoint::kOllamaChat},
    {"messages[].role", "{}", R"(["user","system"])"},
    {"tools[].type", "{}", R"(["custom"])", Endpoint::kMessages},
    {"tools[].type", "{}", R"(["custom"])", Endpoint::kCountTokens},
    {"tools[].type", "{}", R"(["function"])"},
    {"tools[].function", "{}", R"([{"name":"f"}])"},
    {"tools[].function.strict", "{}", "[true,false]"},
    {"tools[].allowed_callers", "{}", R"([["direct"]])"},
    {"tool_choice", "{}",
     R"(["none","auto","required",{"type":"function","function":{"name":"f"}}])", Endpoint::kChat},
    {"tool_choice", "{}", R"(["none","auto","required",{"type":"function","name":"f"}])",
     Endpoint::kResponses},
    {"tool_choice", "{}", R"(["none","auto","required",{"type":"function","name":"f"}])",
     Endpoint::kInputTokens},
    {"tool_choice", "{}", R"([{"type":"auto"}])"},
    {"tool_choice.type", "{}", R"(["auto","any","none"])"},
    {"tool_choice.name", R"({"tool_choice":{"type":"tool"}})", R"(["f"])"},
    {"tool_choice.disable_parallel_tool_use", R"({"tool_choice":{"type":"auto"}})", "[true]"},
    {"response_format", "{}", R"([{"type":"text"},{"type":"json_object"}])"},
    {"response_format.type", "{}", R"(["text","json_object"])"},
    {"response_format.json_schema", R"({"response_format":{"type":"json_schema"}})",
     R"([{"name":"a","schema":{"type":"object"}}])"},
    {"thinking", "{}", R"([{"type":"enabled"}])", Endpoint::kMessages},
    {"thinking", "{}", R"([{"type":"enabled"}])", Endpoint::kCountTokens},
    {"thinking", "{}", R"([true,false,{"type":"enabled"}])"},
    {"thinking.type", "{}", R"(["enabled","disabled"])"},
    {"thinking.budget_tokens", R"({"thinking":{"type":"enabled"}})", "[0,1]"},
    {"thinking.display", R"({"thinking":{"type":"enabled"}})", R"(["summarized","omitted"])"},
    {"continue_final_message", R"({"messages":[{"role":"assistant","content":"a"}]})", "[true]"},
    {"stream_options.include_obfuscation", "{}", "[false]"},
    {"structured_outputs.json", "{}", R"([{},"{}"])"},
    {"structured_outputs.choice", "{}", R"(["a",["a","b"]])"},
    {"guided_json", "{}", R"([{},"{}"])"},
    {"guided_choice", "{}", R"(["a",["a","b"]])"},
    {"prompt", "{}", R"(["a",[1],["a",[1]]])", Endpoint::kCompletions},
    {"best_of", R"({"n":3})", "[3]"},
    {"input", "{}", R"(["a",[{"role":"user","content":"a"}]])"},
    {"text.format", "{}", R"([{"type":"text"},{"type":"json_object"}])"},
    {"text.verbosity", "{}", R"(["medium"])"},
    {"reasoning.summary", "{}", R"(["auto"])"},
    {"reasoning.generate_summary", "{}", R"(["auto"])"},
    {"output_config.format", "{}", R"([{"type":"json_schema","schema":{}}])"},
    {"output_format", "{}", R"([{"type":"json_schema","schema":{}}])"},
    {"format", "{}", R"(["json",{}])"},
    {"think", "{}", R"([true,false,"low","medium","high","max"])"},
    {"keep_alive", "{}", R"([5,"5m"])"},
};

const Sample* sample_of(Endpoint endpoint, const std::string& name) {
  const Sample* any = nullptr;
  for (const Sample& sample : kSamples) {
    if (sample.name != name || (sample.of && *sample.of != endpoint)) continue;
    if (sample.of) return &sample;
    if (!any) any = &sample;
  }
  return any;
}

/// A value of each of the field's types, and of a number its bounds.
Json values_of(const ApiField& field) {
  Json values = Json::array();
  const auto has = [&](std::string_view type) {
    return ("|" + std::string(field.type) + "|").find("|" + std::string(type) + "|") !=
           std::string::npos;
  };
  const Limit* row = find_limit(field.limit);
  const bool bounded = row && row->of == LimitOf::kNumber;
  if (has("string")) values.push_back("a");
  if (has("boolean")) values.insert(values.end(), {true, false});
  if (has("array")) values.push_back(Json::array());
  if (has("object")) values.push_back(Json::object());
  if ((has("integer") || has("number")) && bounded) {
    values.push_back(row->whole ? Json(row->least) : Json(row->low));
    values.push_back(row->whole ? Json(row->most) : Json(row->high));
  }
  if (has("any")) values.insert(values.end(), {"a", 1, true});
  return values;
}

TEST(ApiDescription, EveryDescribedFieldIsRead) {
  for (const auto& [endpoint, base] : base_bodies()) {
    const ApiOperation& operation = operation_of(endpoint);
    const auto plain = ignored_by(endpoint, base_of(endpoint));
    ASSERT_TRUE(plain) << operation.name << ": " << plain.error().message;
    EXPECT_TRUE(plain->empty()) << operation.name;
    for (const auto& [name, field] : fields_of(operation)) {
      const Sample* sample = sample_of(endpoint, name);
      const Json values = sample ? Json::parse(sample->values) : values_of(field);
      EXPECT_FALSE(values.empty()) << name << " has no value to try";
      for (const Json& value : values) {
        Json body = base_of(endpoint);
        if (sample) body.merge_patch(Json::parse(sample->setup));
        set_at(body, name, value);
        const auto ignored = ignored_by(endpoint, body);
        EXPECT_TRUE(ignored) << operation.name << ": " << body << "\n" << ignored.error().message;
        EXPECT_TRUE(!ignored || ignored->empty()) << operation.name << " ignores " << name;
      }
    }
  }
}

TEST(ApiDescription, BeyondItsRangeAFieldIsRefused) {
  int tried = 0;
  for (const auto& [endpoint, base] : base_bodies()) {
    for (const auto& [name, field] : fields_of(operation_of(endpoint))) {
      const Limit* row = find_limit(field.limit);
      if (!row || row->of != LimitOf::kNumber || row->most == INT64_MAX) continue;
      for (const double value : {row->low - 1, row->high + 1}) {
        Json body = base_of(endpoint);
        if (const Sample* sample = sample_of(endpoint, name))
          body.merge_patch(Json::parse(sample->setup));
        set_at(body, name, value);
        const auto read = ignored_by(endpoint, body);
        ASSERT_FALSE(read) << body;
        EXPECT_EQ(read.error().message.find(name), 0U) << read.error().message;
        ++tried;
      }
    }
  }
  EXPECT_GT(tried, 150);
}

// ---- nothing that is read is left out

std::string file_text(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::set<std::string> matches(const std::string& text, const std::string& pattern) {
  std::set<std::string> found;
  const std::regex regex(pattern);
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it)
    found.insert((*it)[1]);
  return found;
}

/// Every name that stands between quotes in the readers' sources, and every described one.
std::set<std::string> plausible_names() {
  const std::string literal = "\"([A-Za-z_][A-Za-z0-9_]*)\"";
  std::set<std::string> names = matches(file_text(HADAL_CHAT_READER), literal);
  for (const auto& entry : std::filesystem::directory_iterator(HADAL_READERS)) {
    const std::string file = entry.path().filename().string();
    if (!file.ends_with(".cc") || file.ends_with("_test.cc") || file.starts_with("http_") ||
        file.starts_with("openapi"))
      continue;
    names.merge(matches(file_text(entry.path().string()), literal));
  }
  for (const ApiOperation& operation : api_operations())
    for (const auto& [name, field] : fields_of(operation))
      for (size_t from = 0; from <= name.size();) {
        const size_t dot = std::min(name.find('.', from), name.size());
        names.insert(name.substr(from, dot - from));
        from = dot + 1;
      }
  for (const Limit& row : kLimits) names.insert(std::string(row.name));
  std::erase_if(names, [](const std::string& name) {
    return name.find_first_of("[. ") != std::string::npos;  // of something inside
  });
  const std::set<std::string> plain = names;
  for (const std::string& name : plain) names.insert("guided_" + name);
  return names;
}

/// Whether the reader asks for it and takes some value. A field that is not built is refused with
/// these words, whatever it holds but the value that asks for nothing.
bool is_read(Endpoint endpoint, const std::string& name) {
  bool known = false;
  for (const char* probe :
       {"\"no such value\"", "-7777", "true", "[]", "[-7777]", R"({"x":[7]})"}) {
    Json body = base_of(endpoint);
    set_at(body, name, Json::parse(probe));
    const auto ignored = ignored_by(endpoint, body);
    if (!ignored && ignored.error().message.find(name + ": is not supported") == 0) return false;
    known =
        known || !ignored || std::find(ignored->begin(), ignored->end(), name) == ignored->end();
  }
  return known;
}

/// Objects of the body whose reader says which members it does not know.
std::vector<std::string> watched_objects(const ApiOperation& operation) {
  std::vector<std::string> all = {""};
  for (const auto& [name, field] : fields_of(operation))
    if (field.type == "object" && name.find("[]") == std::string::npos &&
        !is_read(operation.endpoint, name + ".no_such_field"))
      all.push_back(name + ".");
  return all;
}

TEST(ApiDescription, EveryFieldThatIsReadIsDescribed) {
  const std::set<std::string> names = plausible_names();
  EXPECT_GT(names.size(), 1000U);
  size_t nested = 0;
  for (const auto& [endpoint, base] : base_bodies()) {
    if (endpoint == Endpoint::kOllamaShow) continue;  // below
    const ApiOperation& operation = operation_of(endpoint);
    std::set<std::string> described;
    for (const auto& [name, field] : fields_of(operation))
      EXPECT_TRUE(described.insert(name).second) << name << " is described twice";
    ASSERT_FALSE(is_read(endpoint, "no_such_field")) << operation.name;
    for (const std::string& object : watched_objects(operation)) {
      nested += object.empty() ? 0 : 1;
      for (const std::string& name : names)
        if (!described.contains(object + name)) {
          EXPECT_FALSE(is_read(endpoint, object + name))
              << operation.name << " reads " << object << name << ", which is not described";
        }
    }
  }
  EXPECT_GE(nested, 10U);
}

/// Of readers that tell nobody what they did not know: by their sources.
TEST(ApiDescription, EveryFieldOfTheSmallerBodiesIsDescribed) {
  const std::string readers = HADAL_READERS;
  const std::string asked =
      R"re([fF]ields\.(?:find|text|flag|whole|real|texts|ids|object)\(\s*"(\w+)")re";
  const std::set<std::string> show = matches(file_text(readers + "/ollama_models.cc"), asked);
  std::set<std::string> split = matches(file_text(readers + "/service.cc"), asked);
  split.merge(matches(file_text(HADAL_CHAT_READER), R"re(member\(root,\s*"(\w+)")re"));
  split.merge(matches(file_text(HADAL_CHAT_READER), R"re(flag_of\(root,\s*"(\w+)")re"));
  EXPECT_EQ(show, (std::set<std::string>{"model", "name", "verbose"}));
  EXPECT_GE(split.size(), 8U);
  const auto described = [](Endpoint endpoint) {
    std::set<std::string> names;
    for (const auto& [name, field] : fields_of(operation_of(endpoint))) names.insert(name);
    return names;
  };
  EXPECT_EQ(described(Endpoint::kOllamaShow), show);
  std::set<std::string> told = described(Endpoint::kTokenize);
  told.merge(described(Endpoint::kDetokenize));
  for (const std::string& name : split) EXPECT_TRUE(told.contains(name)) << name;
}

TEST(ApiDescription, EveryLimitExistsAndEveryRowHasAField) {
  std::set<std::string_view> used;
  for (const ApiOperation& operation : api_operations())
    for (const auto& [name, field] : fields_of(operation)) {
      used.insert(field.limit);
      EXPECT_TRUE(field.limit.empty() || find_limit(field.limit)) << name;
      EXPECT_FALSE(field.text.empty()) << name;
    }
  for (const Limit& row : kLimits) {
    // Of entries, of keys and of files; the rest bounds a body as a whole.
    const bool part = row.name.find('[') != std::string_view::npos || row.name == "logit_bias id" ||
                      row.name == "custom_id";
    EXPECT_TRUE(part || row.of == LimitOf::kBody || used.contains(row.name)) << row.name;
  }
}

// ---- the routes

TEST(ApiDescription, EveryEndpointHasOneOperation) {
  std::map<Endpoint, int> count;
  std::set<std::string_view> names;
  for (const ApiOperation& operation : api_operations()) {
    ++count[operation.endpoint];
    EXPECT_TRUE(names.insert(operation.name).second) << operation.name;
    const bool body = !operation.groups().empty();
    const bool smaller =
        operation.endpoint == Endpoint::kTokenize || operation.endpoint == Endpoint::kDetokenize;
    EXPECT_EQ(body, smaller || base_bodies().contains(operation.endpoint)) << operation.name;
  }
  for (const Route& route : routes()) EXPECT_EQ(count[route.endpoint], 1) << route.path;
  EXPECT_EQ(count.size(), api_operations().size());
}

/// All references in it lead somewhere.
void check_references(const Json& at, const Json& document) {
  if (at.is_object() && at.contains("$ref")) {
    const std::string path = at["$ref"].get<std::string>().substr(1);
    EXPECT_TRUE(document.contains(Json::json_pointer(path))) << path;
  }
  if (at.is_structured())
    for (const Json& inside : at) check_references(inside, document);
}

TEST(ApiDescription, TheDocumentHasEveryPathWithItsMethod) {
  const Json document = Json::parse(openapi_json());
  EXPECT_EQ(document["openapi"], "3.1.0");
  check_references(document, document);
  std::set<std::string> ids;
  for (const Route& route : routes()) {
    std::string method(route.method);
    std::transform(method.begin(), method.end(), method.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    SCOPED_TRACE(method + " " + std::string(route.path));
    ASSERT_TRUE(document["paths"].contains(std::string(route.path)));
    const Json& path = document["paths"][std::string(route.path)];
    ASSERT_TRUE(path.contains(method));
    const Json& operation = path[method];
    EXPECT_TRUE(ids.insert(operation["operationId"].get<std::string>()).second);
    EXPECT_EQ(operation.contains("security"), route.open);
    EXPECT_EQ(operation["responses"].contains("401"), !route.open);
    const Api* api = find_api(route.endpoint);
    EXPECT_EQ(operation["responses"].contains("429"), api != nullptr);
    const bool streams = operation["responses"].contains("200") &&
                         operation["responses"]["200"]["content"].size() == 2;
    EXPECT_EQ(streams, api != nullptr);
    const bool id = route.path.find("{id}") != std::string_view::npos;
    EXPECT_EQ(operation.contains("parameters"), id);
    EXPECT_EQ(operation.contains("requestBody"), !operation_of(route.endpoint).groups().empty());
  }
  size_t operations = 0;
  for (const Json& path : document["paths"]) operations += path.size();
  EXPECT_EQ(operations, routes().size());
}

TEST(ApiDescription, RangesAreThoseOfTheTable) {
  const Json schemas = Json::parse(openapi_json())["components"]["schemas"];
  const Json& top = schemas["Chat"]["properties"]["top_logprobs"];
  EXPECT_EQ(top["minimum"], 0);
  EXPECT_EQ(top["maximum"], 20);
  EXPECT_EQ(top["default"], 0);
  EXPECT_EQ(top["type"], (Json{"integer", "null"}));
  EXPECT_EQ(schemas["Sampling"]["properties"]["seed"]["minimum"], INT64_MIN);
  EXPECT_EQ(schemas["Control"]["properties"]["timeout"]["minimum"], 0.001);
  const Json& stop = schemas["Common"]["properties"]["stop"];
  EXPECT_EQ(stop["maxItems"], 64);
  EXPECT_EQ(stop["maxLength"], 1024);
  EXPECT_EQ(stop["items"]["maxLength"], 1024);
  const Json& bias = schemas["Control"]["properties"]["logit_bias"];
  EXPECT_EQ(bias["maxProperties"], 1024);
  EXPECT_EQ(bias["additionalProperties"]["maximum"], 100.0);
  const Json& options = schemas["Ollama"]["properties"]["options"]["properties"];
  EXPECT_EQ(options["repeat_penalty"]["minimum"], 0.01);
  const Json& messages = schemas["Chat"]["properties"]["messages"];
  EXPECT_EQ(messages["maxItems"], 16384);
  EXPECT_EQ(messages["items"]["required"], Json::array({"role"}));
  EXPECT_EQ(schemas["Chat"]["required"], Json::array({"messages"}));
  EXPECT_EQ(schemas["Completion"]["properties"]["best_of"].contains("default"), false);
  EXPECT_EQ(
      field_range({.name = "top_logprobs", .type = "integer", .text = "", .limit = "top_logprobs"}),
      ", 0 to 20");
  EXPECT_EQ(field_range({.name = "stream", .type = "boolean", .text = ""}), "");
}

// ---- pages

TEST(Pages, DocsTellEveryPathAndField) {
  const std::string docs = docs_page();
  for (const Route& route : routes())
    EXPECT_NE(
        docs.find("<code>" + std::string(route.method) + " " + std::string(route.path) + "</code>"),
        std::string::npos)
        << route.path;
  for (const ApiOperation& operation : api_operations())
    for (const auto& [group, under] : operation.groups())
      for (const ApiField& field : group->fields)
        EXPECT_NE(docs.find("<code>" + std::string(field.name) + "</code>"), std::string::npos);
  EXPECT_EQ(docs.find("<script"), std::string::npos);
  EXPECT_EQ(docs.find(" src="), std::string::npos);
  for (const std::string& target : matches(docs, "href=\"#([^\"]+)\""))
    EXPECT_NE(docs.find("id=\"" + target + "\""), std::string::npos) << target;
}

TEST(Pages, TheFrontPageEscapesWhatComesFromOutside) {
  const std::string hostile = "a'; rm x #\"</pre><script>alert(1)</script>&amp;";
  ModelCard card{.name = hostile, .aliases = {hostile}, .adapters = {hostile}};
  const std::string page = front_page(card, {.host = "\"><img src=x onerror=alert(1)>$(reboot)"});
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find("<img"), std::string::npos);
  EXPECT_EQ(page.find("reboot"), std::string::npos);
  EXPECT_NE(page.find("&lt;script&gt;"), std::string::npos);
  EXPECT_NE(page.find("&amp;amp;"), std::string::npos);
  // In the shell's line the quote of the name ends no word.
  EXPECT_NE(page.find("-d '{&quot;model&quot;:&quot;a'\\''; rm"), std::string::npos) << page;
  EXPECT_NE(page.find("curl http://localhost/v1"), std::string::npos);
  EXPECT_EQ(page.find("YOUR-KEY"), std::string::npos);

  card.name = "tiny";
  const std::string plain = front_page(card, {.host = "[::1]:8080", .needs_key = true});
  EXPECT_NE(plain.find("curl http://[::1]:8080/v1/chat/completions"), std::string::npos);
  EXPECT_NE(plain.find("Bearer YOUR-KEY"), std::string::npos);
}

}  // namespace
}  // namespace hadal::server
