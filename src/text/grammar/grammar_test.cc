// Grammars against a vocabulary of single bytes: what each kind lets through, and what is refused.
#include "text/grammar/grammar.h"

#include <gtest/gtest.h>

#include <ctime>
#include <nlohmann/json.hpp>
#include <random>

#include "text/chat/byte_tokenizer.h"
#include "text/grammar/limits.h"
#include "text/output/output.h"

namespace hadal {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kMarkers[] = {"<end>",
                                    "<｜tool▁calls▁begin｜>",
                                    "<｜tool▁calls▁end｜>",
                                    "<｜tool▁call▁begin｜>",
                                    "<｜tool▁call▁end｜>",
                                    "<｜tool▁sep｜>",
                                    "｜DSML｜",
                                    "<other>"};
/// Of the processor, for any source: neighbours on the machine do not count. The limits are set for
/// the release build (limits.h: 2 s); what a sanitizer watches takes up to ten times as long.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kMostSeconds = 60;
#else
constexpr double kMostSeconds = 10;
#endif
constexpr TokenId kEnd = 258;
constexpr TokenId kOther = 265;

class Grammars : public testing::Test {
 protected:
  Grammars()
      : tokenizer_(byte_tokenizer({kMarkers[0], kMarkers[1], kMarkers[2], kMarkers[3], kMarkers[4],
                                   kMarkers[5], kMarkers[6], kMarkers[7]})),
        compiler_(*GrammarCompiler::create(*tokenizer_, std::vector<TokenId>{kEnd})) {}

  std::unique_ptr<GrammarMatcher> matcher(const GrammarSource& source) {
    auto grammar = compiler_->compile(source);
    EXPECT_TRUE(grammar) << grammar.error().message;
    return grammar ? make_matcher(*grammar) : nullptr;
  }
  std::string refusal(const GrammarSource& source) {
    const std::clock_t begin = std::clock();
    const auto grammar = compiler_->compile(source);
    EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, kMostSeconds);
    return grammar ? "accepted" : grammar.error().message;
  }
  std::string schema_refusal(const std::string& schema) {
    return refusal({.kind = GrammarKind::kJsonSchema, .text = schema});
  }

  std::vector<uint32_t> allowed(GrammarMatcher& matcher, size_t words = 12) {
    std::vector<uint32_t> mask(words, ~0u);
    matcher.fill(mask);
    return mask;
  }
  static bool is(const std::vector<uint32_t>& mask, TokenId token) {
    return (mask[static_cast<size_t>(token) / 32] >> (token % 32) & 1) != 0;
  }
  TokenId byte(char c) { return tokenizer_->encode(std::string(1, c))[0]; }

  /// Whether the grammar lets `text` through, byte by byte, and may end there. Each mask must say
  /// what accept says.
  bool lets_through(const GrammarSource& source, std::string_view text) {
    const auto one = matcher(source);
    if (!one) return false;
    std::vector<TokenId> ids;
    for (const TokenId id : tokenizer_->encode(text))
      for (const char c : tokenizer_->is_special(id) ? std::string() : tokenizer_->token_bytes(id))
        ids.push_back(byte_id(c));
    for (const TokenId id : ids) {
      const bool masked = is(allowed(*one), id);
      EXPECT_EQ(masked, one->accept(id)) << text;
      if (!masked) return false;
    }
    const bool ends = is(allowed(*one), kEnd);
    EXPECT_EQ(ends, one->accept(kEnd)) << text;
    return ends;
  }
  TokenId byte_id(char c) {
    for (TokenId id = 0; id < 256; ++id)
      if (tokenizer_->token_bytes(id) == std::string(1, c)) return id;
    return -1;
  }
  bool schema(const Json& schema, std::string_view text) {
    return lets_through({.kind = GrammarKind::kJsonSchema, .text = schema.dump()}, text);
  }

  /// A byte that leads to the end of strings, brackets or elements; -1 if none may come.
  TokenId closing(const std::vector<uint32_t>& mask, const std::string& text) {
    const std::string tag = "</｜DSML｜";
    for (size_t written = tag.size(); written-- > 0;)
      if (text.ends_with(tag.substr(0, written)) && is(mask, byte_id(tag[written])))
        if (written > 0 || text.find("｜DSML｜") != text.npos) return byte_id(tag[written]);
    for (const char c : {'"', '}', ']'})
      if (is(mask, byte_id(c))) return byte_id(c);
    return -1;
  }

  /// A walk at random through the masks.
  std::string sample(const GrammarSource& source, uint64_t seed) {
    const auto one = matcher(source);
    std::mt19937_64 random(seed);
    std::string text;
    for (int step = 0; one && step < 4000; ++step) {
      const auto mask = allowed(*one);
      if (is(mask, kEnd) && (step > 40 || random() % 3 == 0)) return text;
      std::vector<TokenId> choices;
      for (TokenId id = 0; id < 266; ++id)
        if (id != kEnd && is(mask, id)) choices.push_back(id);
      if (choices.empty()) return is(mask, kEnd) ? text : "stuck: " + text;
      TokenId next = choices[random() % choices.size()];
      if (step > 40)
        if (const TokenId close = closing(mask, text); close >= 0) next = close;
      EXPECT_TRUE(one->accept(next));
      text += tokenizer_->token_bytes(next);
    }
    return "endless: " + text;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<GrammarCompiler> compiler_;
};

TEST_F(Grammars, JsonObject) {
  const GrammarSource source{.kind = GrammarKind::kJsonObject};
  EXPECT_TRUE(lets_through(source, "{}"));
  EXPECT_TRUE(lets_through(source, "\n\n{\n  \"a\": [1, -2.5e3, null, true, \"x\\n\\u00e9\"]\n}"));
  EXPECT_FALSE(lets_through(source, "[]"));
  EXPECT_FALSE(lets_through(source, "{} "));
  EXPECT_FALSE(lets_through(source, "{\"a\":  1}"));
  EXPECT_FALSE(lets_through(source, "{\"a\":01}"));
  EXPECT_FALSE(lets_through(source, "{\"a\":\"\\ud800\"}"));
  EXPECT_FALSE(lets_through(source, "{\n                    \"a\":1}"));  // bounded indentation
}

TEST_F(Grammars, Regex) {
  const auto match = [&](const char* regex, const char* text) {
    return lets_through({.kind = GrammarKind::kRegex, .text = regex}, text);
  };
  EXPECT_TRUE(match("(a+)+b", "aaab"));
  EXPECT_FALSE(match("(a+)+b", "aaa"));
  EXPECT_TRUE(match("^\\d{2,3}$|x", "123"));
  EXPECT_FALSE(match("^\\d{2,3}$|x", "1234"));
  EXPECT_TRUE(match("[^\\s\"]é?", "zé"));
  EXPECT_TRUE(match("a{0}b", "b"));
  EXPECT_FALSE(match("a$b|c", "ab"));
}

TEST_F(Grammars, Ebnf) {
  const GrammarSource source{
      .kind = GrammarKind::kEbnf,
      .text = "root ::= item (\",\" item){0,2} # list\nitem ::= [a-c]+ | \"(\" item \")\"\n"};
  EXPECT_TRUE(lets_through(source, "a,(bc),c"));
  EXPECT_FALSE(lets_through(source, "a,b,c,a"));
  EXPECT_FALSE(lets_through(source, "(a"));
}

TEST_F(Grammars, SchemaNumbers) {
  const Json range = {{"type", "integer"}, {"minimum", -12}, {"exclusiveMaximum", 130}};
  for (int n = -250; n <= 250; ++n)
    EXPECT_EQ(schema(range, std::to_string(n)), n >= -12 && n < 130) << n;
  const Json real = {{"type", "number"}, {"exclusiveMinimum", 0.25}, {"maximum", 12.5}};
  for (int n = 0; n < 1400; n += 7) {
    const std::string text =
        std::to_string(n / 100) + "." + std::to_string(n / 10 % 10) + std::to_string(n % 10);
    EXPECT_EQ(schema(real, text), n > 25 && n <= 1250) << text;
  }
  EXPECT_FALSE(schema({{"type", "integer"}, {"exclusiveMinimum", 5}}, "5"));
  EXPECT_TRUE(schema({{"type", "integer"}, {"exclusiveMinimum", 5}}, "6"));
  const Json sevens = {{"type", "integer"}, {"multipleOf", 7}};
  for (int n = 0; n < 100; ++n) EXPECT_EQ(schema(sevens, std::to_string(n)), n % 7 == 0) << n;
  EXPECT_TRUE(schema({{"type", "number"}, {"minimum", 1e18}}, "1000000000000000001"));
  EXPECT_FALSE(schema({{"type", "number"}, {"minimum", 1e18}}, "999999999999999999"));
}

TEST_F(Grammars, SchemaStrings) {
  EXPECT_TRUE(schema({{"type", "string"}, {"pattern", "^a\"b$"}}, "\"a\\\"b\""));
  EXPECT_FALSE(schema({{"type", "string"}, {"pattern", "^a"}, {"maxLength", 2}}, "\"abc\""));
  EXPECT_TRUE(schema({{"type", "string"}, {"minLength", 2}, {"maxLength", 3}}, "\"éé\""));
  EXPECT_FALSE(schema({{"type", "string"}, {"minLength", 2}}, "\"é\""));
  const Json long_one = {{"type", "string"}, {"maxLength", 40}};
  EXPECT_TRUE(schema(long_one, "\"" + std::string(40, 'x') + "\""));
  EXPECT_FALSE(schema(long_one, "\"" + std::string(41, 'x') + "\""));
  EXPECT_TRUE(schema({{"enum", {"a", 1, nullptr, {{"b", 2}}}}}, "{\"b\":2}"));
  EXPECT_FALSE(schema({{"enum", {"a", 1}}, {"type", "string"}}, "1"));
}

TEST_F(Grammars, SchemaObjects) {
  const Json object = Json::parse(R"({"type": "object", "required": ["a"], "properties":
      {"a": {"type": "integer"}, "b": {"$ref": "#"}}, "additionalProperties": {"type": "boolean"}})");
  EXPECT_TRUE(schema(object, R"({"a":1})"));
  EXPECT_TRUE(schema(object, R"({"a":1,"b":{"a":2},"c":true,"ab":false})"));
  EXPECT_FALSE(schema(object, R"({"b":{"a":2}})"));
  EXPECT_FALSE(schema(object, R"({"a":1,"a":true})"));
  EXPECT_FALSE(schema(object, R"({"a":1,"c":1})"));
  const Json pattern = Json::parse(R"({"type": "object", "additionalProperties": false,
      "patternProperties": {"^x": {"type": "null"}}, "maxProperties": 2})");
  EXPECT_TRUE(schema(pattern, R"({"xy":null})"));
  EXPECT_FALSE(schema(pattern, R"({"y":null})"));
  const Json beside = Json::parse(R"({"type": "object", "properties": {"y": {"type": "string"}},
      "patternProperties": {"^x": {"type": "null"}}})");
  EXPECT_TRUE(schema(beside, R"({"y":"a"})"));
  EXPECT_FALSE(schema(pattern, R"({"xa":null,"xb":null,"xc":null})"));
}

TEST_F(Grammars, SchemaArraysAndChoices) {
  const Json array = Json::parse(R"({"type": "array", "prefixItems": [{"type": "null"}],
      "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3})");
  EXPECT_TRUE(schema(array, "[null,true,false]"));
  EXPECT_FALSE(schema(array, "[null]"));
  EXPECT_FALSE(schema(array, "[null,true,false,true]"));
  EXPECT_FALSE(schema(array, "[true,true]"));
  const Json one = Json::parse(R"({"maxLength": 1, "oneOf": [{"type": "string"},
      {"type": "integer", "minimum": 3}]})");
  EXPECT_TRUE(schema(one, "\"x\""));
  EXPECT_FALSE(schema(one, "\"xy\""));
  EXPECT_FALSE(schema(one, "2"));
  const Json any = Json::parse(R"({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 2}]})");
  EXPECT_TRUE(schema(any, "5"));
  EXPECT_FALSE(schema(any, "3"));
}

TEST_F(Grammars, RollbackFinishAndPadding) {
  const auto one = matcher({.kind = GrammarKind::kRegex, .text = "a{40}b?"});
  const TokenId a = byte_id('a');
  for (int i = 0; i < 40; ++i) EXPECT_TRUE(one->accept(a));
  EXPECT_FALSE(one->accept(a));
  EXPECT_FALSE(one->finished());
  EXPECT_TRUE(one->accept(byte_id('b')));
  EXPECT_TRUE(one->finished());
  EXPECT_TRUE(one->accept(kEnd));
  EXPECT_TRUE(one->finished());
  EXPECT_FALSE(one->accept(kEnd));
  EXPECT_TRUE(is(allowed(*one), kEnd));
  one->rollback(34);
  EXPECT_FALSE(one->finished());
  EXPECT_FALSE(one->accept(kEnd));
  EXPECT_FALSE(one->accept(byte_id('b')));
  EXPECT_TRUE(one->accept(a));
  const auto mask = allowed(*one, 40);
  for (TokenId id = 0; id < 40 * 32; ++id) EXPECT_EQ(is(mask, id), id == a) << id;
  one->rollback(1000);
  EXPECT_TRUE(one->accept(a));
  EXPECT_FALSE(one->accept(-1));
  EXPECT_FALSE(one->accept(100000));
  EXPECT_FALSE(one->accept(kOther));
}

TEST_F(Grammars, WhatCannotBeHonouredIsRefusedByName) {
  const auto refused = [&](const char* schema, const char* part) {
    EXPECT_NE(schema_refusal(schema).find(part), std::string::npos) << schema_refusal(schema);
  };
  refused(R"({"properties": {"x": {"multipleOf": 0.01}}})",
          "`multipleOf` at /properties/x is not supported");
  refused(R"({"uniqueItems": true})", "`uniqueItems` at the top is not supported");
  refused(R"({"contains": {}})", "`contains` at the top is not supported");
  refused(R"({"not": {"minimum": 3}})", "`not` at the top");
  refused(R"({"if": {}, "then": {}})", "`if` at the top");
  refused(R"({"minimun": 3})", "`minimun` at the top is no keyword");
  refused(R"({"minimum": "3"})", "`minimum` at the top must be a number");
  refused(R"({"$ref": "other.json"})", "leads out of the schema");
  refused(R"({"$ref": "#/$defs/a"})", "where no schema is");
  refused(R"({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}})",
          "leads back to itself");
  refused(R"({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"})",
          "cannot end");
  refused(R"({"required": ["a"], "properties": {"a": {"$ref": "#"}}, "type": "object"})",
          "cannot end");
  refused(R"({"oneOf": [{"const": 1}, {"$ref": "#"}]})", "round and round");
  refused(R"({"oneOf": [{"minimum": 2}, {"minimum": 3}]})", "`oneOf` at the top is not supported");
  refused(R"({"pattern": "(?=a)b"})", "look-around");
  refused(R"({"enum": []})", "nothing satisfies");
  refused("false", "nothing satisfies");
  refused("[1]", "expected an object");
  refused("{", "no valid JSON");
}

TEST_F(Grammars, WhatIsTooLargeIsRefusedBeforeItHurts) {
  std::string schema = "{\"enum\":[";
  for (int i = 0; i < 100000; ++i) schema += std::to_string(i) + ",";
  EXPECT_NE(schema_refusal(schema + "0]}").find("longer than"), std::string::npos);
  EXPECT_NE(
      schema_refusal(schema.substr(0, schema.find("3000,")) + "0]}").find("`enum` at the top has"),
      std::string::npos);
  std::string nested;
  for (int i = 0; i < 100000; ++i) nested += "{\"items\":";
  EXPECT_NE(schema_refusal(nested), "accepted");
  const auto regex = [&](std::string text) {
    return refusal({.kind = GrammarKind::kRegex, .text = std::move(text)});
  };
  EXPECT_NE(regex("(a{1000}){1000}").find("regex: "), std::string::npos);
  EXPECT_NE(regex(std::string(60000, '(')).find("regex: "), std::string::npos);
  EXPECT_NE(regex(std::string(4000, '(')).find("nested deeper"), std::string::npos);
  EXPECT_NE(regex("(a|b)*a(a|b){20}").find("states"), std::string::npos);
  const auto ebnf = [&](std::string text) {
    return refusal({.kind = GrammarKind::kEbnf, .text = std::move(text)});
  };
  EXPECT_NE(ebnf("root ::= " + std::string(60000, '(')).find("nested deeper"), std::string::npos);
  EXPECT_NE(ebnf("root ::= a\na ::= \"x\"? root | \"y\"").find("left-recursive"),
            std::string::npos);
  EXPECT_NE(ebnf("root ::= \"a\" root").find("cannot end"), std::string::npos);
  EXPECT_NE(ebnf("root ::= b").find("not given"), std::string::npos);
  EXPECT_NE(ebnf("root ::= \"a\"{100000}").find("repetition"), std::string::npos);
  EXPECT_NE(ebnf("root ::= Regex(\"a\")").find("macros"), std::string::npos);
  EXPECT_NE(ebnf("a ::= \"a\"").find("`root`"), std::string::npos);
  std::string chain = "root ::= r0\n";
  for (int i = 0; i < 8000; ++i)
    chain += "r" + std::to_string(i) + " ::= \"a\" r" + std::to_string(i + 1) + "\n";
  EXPECT_EQ(ebnf(chain + "r8000 ::= \"b\"\n").find("crash"), std::string::npos);
}

TEST_F(Grammars, PropertiesThatMayBeLeftOutAreBounded) {
  const auto refusal_of = [&](size_t optional) {
    Json schema = {{"type", "object"}, {"additionalProperties", false}, {"required", {"kept"}}};
    schema["properties"]["kept"] = {{"type", "null"}};
    for (size_t i = 0; i < optional; ++i)
      schema["properties"]["p" + std::to_string(i)] = {{"type", "null"}};
    return schema_refusal(schema.dump());
  };
  EXPECT_EQ(refusal_of(grammar_limits::kOptionalMembers), "accepted");
  EXPECT_NE(refusal_of(grammar_limits::kOptionalMembers + 1)
                .find("an object has 513 properties that may be left out, at most 512"),
            std::string::npos);
}

TEST_F(Grammars, TheCacheIsBounded) {
  for (size_t i = 0; i < 2 * grammar_limits::kCachedGrammars; ++i)
    ASSERT_TRUE(
        compiler_->compile({.kind = GrammarKind::kJsonSchema, .text = Json{{"const", i}}.dump()}));
  EXPECT_LE(compiler_->cached(), grammar_limits::kCachedGrammars);
  EXPECT_LE(compiler_->cached_bytes(),
            grammar_limits::kCachedBytes + static_cast<size_t>(grammar_limits::kCoreCacheBytes));
  const GrammarSource source{.kind = GrammarKind::kRegex, .text = "a"};
  EXPECT_EQ(*compiler_->compile(source), *compiler_->compile(source));
}

constexpr const char* kTools =
    R"([{"type": "function", "function": {"name": "weather", "strict": true,
  "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer",
  "minimum": 1, "maximum": 9}, "unit": {"enum": ["C", "F"]}}, "required": ["city", "days"],
  "additionalProperties": false}}}, {"type": "function", "function": {"name": "stop"}}])";

TEST_F(Grammars, SampledCallsParseAndSatisfyTheirSchema) {
  for (const char* format : {"deepseek-v3", "deepseek-r1", "deepseek-v3.1", "deepseek-v3.2",
                             "deepseek-v4", "deepseek-v4.1"})
    for (const char* choice : {"auto", "required", "weather"})
      for (uint64_t seed = 1; seed <= 4; ++seed) {
        const std::string text = sample(
            {.kind = GrammarKind::kTools, .text = kTools, .format = format, .tool_choice = choice},
            seed);
        auto parser = *make_output_parser(format, false);
        OutputDelta delta = parser->push(text);
        OutputDelta end = parser->finish();
        delta.tool_calls.insert(delta.tool_calls.end(), end.tool_calls.begin(),
                                end.tool_calls.end());
        const std::string where = std::string(format) + " " + choice + ": " + text;
        if (std::string_view(choice) != "auto") {
          EXPECT_GE(delta.tool_calls.size(), 1u) << where;
          EXPECT_EQ(delta.content + end.content, "") << where;
        }
        EXPECT_EQ((delta.content + end.content).find("｜DSML｜"), std::string::npos) << where;
        for (const ToolCall& call : delta.tool_calls) {
          const Json arguments = Json::parse(call.arguments, nullptr, false);
          ASSERT_TRUE(arguments.is_object()) << where;
          if (call.name != "weather") continue;
          EXPECT_TRUE(arguments.contains("city") && arguments["city"].is_string()) << where;
          const int64_t days = arguments.value("days", int64_t{0});
          EXPECT_TRUE(days >= 1 && days <= 9) << where;
          if (arguments.contains("unit")) {
            EXPECT_TRUE(arguments["unit"] == "C" || arguments["unit"] == "F") << where;
          }
        }
      }
}

TEST_F(Grammars, ToolsAreRefusedByName) {
  const auto tools = [&](const char* text, const char* format, const char* choice) {
    return refusal(
        {.kind = GrammarKind::kTools, .text = text, .format = format, .tool_choice = choice});
  };
  EXPECT_NE(tools(kTools, "chatml", "auto").find("no form for calls"), std::string::npos);
  EXPECT_NE(tools(kTools, "deepseek-v4", "nobody").find("\"nobody\""), std::string::npos);
  EXPECT_NE(tools("[]", "deepseek-v4", "auto").find("expected a list"), std::string::npos);
  EXPECT_NE(tools(R"([{"function": {"name": "a b"}}])", "deepseek-v4", "auto").find("the name"),
            std::string::npos);
  EXPECT_NE(
      tools(
          R"([{"function": {"name": "a", "strict": true, "parameters": {"properties": {"x": {"contains": {}}}}}}])",
          "deepseek-v3", "auto")
          .find("`contains`"),
      std::string::npos);
}

TEST_F(Grammars, MarkersComeInToolsAlone) {
  const auto tools = matcher({.kind = GrammarKind::kTools,
                              .text = kTools,
                              .format = "deepseek-v3",
                              .tool_choice = "required"});
  EXPECT_TRUE(is(allowed(*tools), 259));
  EXPECT_TRUE(tools->accept(259));
  EXPECT_TRUE(tools->accept(261));
  const auto json = matcher({.kind = GrammarKind::kEbnf, .text = "root ::= [^\\n]*"});
  for (TokenId id = 259; id <= kOther; ++id) EXPECT_FALSE(is(allowed(*json), id)) << id;
}

}  // namespace
}  // namespace hadal
