#include "checkpoint/config.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "checkpoint/json_scan.h"
#include "checkpoint/names.h"
#include "checkpoint/printable.h"

namespace hadal {
namespace {

Config parsed(std::string_view json) { return Config::parse(json, "c.json").value(); }

std::string parse_error(std::string_view json) {
  const auto config = Config::parse(json, "c.json");
  return config ? "no error" : config.error().message;
}

TEST(Config, Integers) {
  const Config c = parsed(
      R"({"a": 3, "b": 3.0, "c": 1e300, "d": true, "e": null, "f": "3", "g": 3.5, "h": -1, "i": 18446744073709551615})");
  EXPECT_EQ(c.integer("a", 0, 10).value(), 3);
  EXPECT_EQ(c.integer("b", 0, 10).value(), 3);
  EXPECT_EQ(c.integer("e", 0, 10, 7).value(), 7);
  EXPECT_EQ(c.integer("h", -1, 10).value(), -1);
  EXPECT_EQ(c.integer("e", 0, 10).error().message,
            R"(c.json: "e": expected a whole number from 0 to 10, found no such key)");
  EXPECT_EQ(c.integer("f", 0, 10).error().message,
            R"(c.json: "f": expected a whole number from 0 to 10, found the string "3")");
  for (const char* key : {"c", "d", "g", "h", "i", "missing"})
    EXPECT_FALSE(c.integer(key, 0, INT64_MAX)) << key;
  EXPECT_FALSE(c.integer("a", 4, 10));
}

TEST(Config, OtherKinds) {
  const Config c = parsed(
      R"({"r": 1, "t": "x", "b": false, "l": [1, 2.0], "one": 5, "o": {"k": [1.5]}, "s": ["a", "b"], "mixed": [1, "a"]})");
  EXPECT_EQ(c.real("r").value(), 1.0);
  EXPECT_FALSE(c.real("b"));
  EXPECT_FALSE(c.real("t"));
  EXPECT_EQ(c.real("missing", 2.5).value(), 2.5);
  EXPECT_EQ(c.boolean("b").value(), false);
  EXPECT_FALSE(c.boolean("r"));
  EXPECT_EQ(c.text("t").value(), "x");
  EXPECT_FALSE(c.text("r"));
  EXPECT_EQ(c.integers("l").value(), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(c.integers("one").value(), (std::vector<int64_t>{5}));
  EXPECT_TRUE(c.integers("missing").value().empty());
  EXPECT_EQ(c.integers("mixed").error().message,
            R"(c.json: "mixed[1]": expected a list of whole numbers, found the string "a")");
  EXPECT_EQ(c.texts("s").value(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(c.object("o").value().reals("k").value(), (std::vector<double>{1.5}));
  EXPECT_EQ(c.object("o").value().integer("x", 0, 1).error().message,
            R"(c.json: "o": "x": expected a whole number from 0 to 1, found no such key)");
  EXPECT_FALSE(c.object("missing").value().has("k"));
  EXPECT_FALSE(c.object("t"));
}

TEST(Config, RefusesWhatIsNoConfig) {
  EXPECT_EQ(parse_error("[1]"), "c.json: expected a JSON object, found a list of 1");
  EXPECT_EQ(parse_error("{\"a\": NaN}"), "c.json: byte 6: no valid JSON");
  EXPECT_EQ(parse_error(R"({"a": 1e999})"), "c.json: a number in it is out of range");
  EXPECT_EQ(parse_error("{\"a\": 1} x"), "c.json: byte 9: no valid JSON");
  EXPECT_NE(parse_error(""), "no error");
  EXPECT_NE(parse_error("{\"a\": \"\xff\"}"), "no error");
  std::string deep = "{\"a\":";
  for (int i = 0; i < 63; ++i) deep += '[';
  std::string closed = deep;
  for (int i = 0; i < 63; ++i) closed += ']';
  EXPECT_EQ(parse_error(closed + "}"), "no error");
  EXPECT_EQ(parse_error(deep + "["),
            "c.json: byte 68: JSON with too many levels of nesting, at most 64 allowed");
  EXPECT_NE(parse_error(std::string(100000, '[')), "no error");
  EXPECT_NE(parse_error("{\"a\":\"" + std::string(5 << 20, 'x') + "\"}"), "no error");
  std::string keys = "{\"k\":0";
  for (int i = 0; i < 9000; ++i) keys += ",\"k\":0";
  EXPECT_NE(parse_error(keys + "}"), "no error");
}

TEST(Config, SetLeavesCopiesAlone) {
  const Config before = parsed(R"({"a": 1})");
  Config after = before;
  after.set("a", "2");
  after.set_text("b", "\"\xff\n");
  EXPECT_EQ(before.integer("a", 0, 9).value(), 1);
  EXPECT_EQ(after.integer("a", 0, 9).value(), 2);
  EXPECT_EQ(after.text("b").value(), "\"\\xff\\n");
  EXPECT_EQ(after.keys(), (std::vector<std::string>{"a", "b"}));
  EXPECT_THROW(after.set("c", "{"), std::logic_error);
}

TEST(Config, RopeOfBothVersionsOfTransformers) {
  Config v5 = parsed(R"({"model_type": "llama", "dtype": "bfloat16",
    "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0}})");
  ASSERT_TRUE(normalise_config(v5));
  EXPECT_EQ(v5.real("rope_theta").value(), 500000.0);
  EXPECT_EQ(v5.object("rope_scaling").value().text("rope_type").value(), "llama3");
  EXPECT_EQ(v5.object("rope_scaling").value().real("factor").value(), 8.0);
  EXPECT_EQ(v5.text("torch_dtype").value(), "bfloat16");

  Config plain = parsed(R"({"rope_parameters": {"rope_type": "default", "rope_theta": 10000}})");
  ASSERT_TRUE(normalise_config(plain));
  EXPECT_FALSE(plain.has("rope_scaling"));
  EXPECT_EQ(plain.real("rope_theta").value(), 10000.0);

  Config v4 =
      parsed(R"({"rope_theta": 100000, "rope_scaling": {"type": "linear", "factor": 4.0}})");
  ASSERT_TRUE(normalise_config(v4));
  EXPECT_EQ(v4.object("rope_scaling").value().text("rope_type").value(), "linear");
  EXPECT_EQ(v4.object("rope_scaling").value().real("factor").value(), 4.0);

  Config broken = parsed(R"({"rope_scaling": [4]})");
  EXPECT_FALSE(normalise_config(broken));
}

TEST(Config, CoreNumbers) {
  EXPECT_TRUE(check_config(parsed(R"({"num_hidden_layers": 61, "rms_norm_eps": 1e-6})")));
  for (const char* json :
       {R"({"num_hidden_layers": 1000000000})", R"({"num_hidden_layers": 0})",
        R"({"hidden_size": -1})", R"({"num_attention_heads": [8, 0]})", R"({"rms_norm_eps": 0})",
        R"({"rope_theta": -1})", R"({"vocab_size": "x"})", R"({"rope_scaling": {"factor": 0}})"})
    EXPECT_FALSE(check_config(parsed(json))) << json;
}

TEST(CheckedSizes, NeverWrap) {
  constexpr uint64_t kBig = uint64_t{1} << 62;
  EXPECT_TRUE(CheckedSize(static_cast<uint64_t>(INT64_MAX)).ok());
  EXPECT_FALSE(CheckedSize(static_cast<uint64_t>(INT64_MAX) + 1).ok());
  EXPECT_FALSE((CheckedSize(kBig) + CheckedSize(kBig)).ok());
  EXPECT_FALSE((CheckedSize(kBig) * CheckedSize(2)).ok());
  EXPECT_FALSE((CheckedSize::invalid() * CheckedSize(0)).ok());
  EXPECT_FALSE(CheckedSize(static_cast<uint64_t>(INT64_MAX)).round_up(32).ok());
  EXPECT_FALSE(CheckedSize(1).round_up(0).ok());
  EXPECT_EQ(CheckedSize(33).round_up(32).get_or(-1), 64);
  EXPECT_EQ(CheckedSize(64).round_up(32).get_or(-1), 64);
  EXPECT_FALSE(CheckedSize::invalid().at_most(INT64_MAX));
  EXPECT_TRUE(CheckedSize(5).at_most(5));
  EXPECT_FALSE(CheckedSize(6).at_most(5));
}

TEST(Printable, ActsOnNoTerminal) {
  EXPECT_EQ(printable("a\x1b[31m\n\t\x7f"), "a\\x1b[31m\\n\\t\\x7f");
  EXPECT_EQ(printable("Ġhé中😀"), "Ġhé中😀");
  EXPECT_EQ(printable("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(printable("\xe2\x80\xae"), "\\xe2\\x80\\xae");  // right-to-left override
  EXPECT_EQ(printable("\xc0\x80\xed\xa0\x80"), "\\xc0\\x80\\xed\\xa0\\x80");  // overlong, surrogate
  EXPECT_EQ(printable(std::string(100, 'x'), 10), "xxxxxxxxxx…");
  EXPECT_EQ(quote("a"), "\"a\"");
  EXPECT_EQ(listed({}), "");
  EXPECT_EQ(listed({"a", "b"}), "a, b");
  EXPECT_EQ(listed(std::vector<std::string>(10, "x")), "x, x, x, x, x, x, x, x, … and 2 more");
  EXPECT_TRUE(is_printable("blk.0.attn_q.weight"));
  EXPECT_FALSE(is_printable("a\nb"));
}

Config normalised(std::string_view json) {
  Config config = *Config::parse(json, "config.json");
  EXPECT_TRUE(normalise_config(config));
  return config;
}

TEST(NormaliseConfig, LiftsTheLanguageModelOfAModelThatSees) {
  const Config config = normalised(
      R"({"model_type": "deepseek_v41", "hidden_size": 1, "text_config": {"model_type": "x",
          "hidden_size": 64, "compress_ratios": [0, 2], "scoring_func": "sigmoid"}})");
  EXPECT_EQ(*config.text("model_type"), "deepseek_v41");
  EXPECT_EQ(*config.integer("hidden_size", 1, 100), 64);
  EXPECT_EQ(*config.integers("compress_ratios"), (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(*config.text("scoring_func"), "sigmoid");
}

TEST(NormaliseConfig, WhatCountsOfRopeIsAsInTransformers) {
  const auto theta = [](std::string_view json) { return *normalised(json).real("rope_theta"); };
  EXPECT_EQ(theta(R"({"rope_theta": 5.0, "rope_parameters": {"rope_type": "default",
                      "rope_theta": 7.0}})"),
            7.0);
  EXPECT_EQ(theta(R"({"rope_theta": 5.0, "rope_parameters": {"rope_type": "default"}})"), 5.0);
  EXPECT_EQ(theta(R"({"rope_theta": 5.0, "rope_scaling": {"type": "linear", "factor": 2.0,
                      "rope_theta": 7.0}})"),
            7.0);
  // An old rope_scaling that says something counts, and rope_parameters as a whole do not.
  const Config both = normalised(R"({"rope_scaling": {"type": "linear", "factor": 2.0},
      "rope_parameters": {"rope_type": "yarn", "rope_theta": 7.0, "factor": 4.0}})");
  EXPECT_EQ(*both.object("rope_scaling")->text("rope_type"), "linear");
  EXPECT_FALSE(both.has("rope_theta"));
  EXPECT_EQ(theta(R"({"rope_scaling": {}, "rope_parameters": {"rope_theta": 7.0}})"), 7.0);
  const Config beside = normalised(R"({"original_max_position_embeddings": 32, "rope_scaling":
      {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}})");
  EXPECT_EQ(*beside.object("rope_scaling")->integer("original_max_position_embeddings", 1, 99), 32);
  const Config layers = normalised(R"({"rope_theta": 5.0, "rope_parameters": {"main":
      {"rope_theta": 7.0}, "compress": {"rope_theta": 9.0}}})");
  EXPECT_EQ(*layers.real("rope_theta"), 5.0);
  EXPECT_EQ(*layers.object("rope_parameters")->object("main")->real("rope_theta"), 7.0);
}

TEST(NormaliseConfig, ScalingOfTheOriginalContextMakesItLonger) {
  const auto context = [](std::string_view scaling) {
    return *normalised(R"({"max_position_embeddings": 32768, "rope_scaling": )" +
                       std::string(scaling) + "}")
                .integer("max_position_embeddings", 1, 1 << 30);
  };
  EXPECT_EQ(context(R"({"type": "yarn", "factor": 4.0,
                        "original_max_position_embeddings": 32768})"),
            131072);
  EXPECT_EQ(context(R"({"type": "yarn", "factor": 2.5})"), 81920);
  EXPECT_EQ(context(R"({"rope_type": "llama3", "factor": 8,
                        "original_max_position_embeddings": 32768})"),
            262144);
  EXPECT_EQ(context(R"({"type": "yarn", "factor": 4.0,
                        "original_max_position_embeddings": 8192})"),
            32768);
  EXPECT_EQ(context(R"({"type": "linear", "factor": 4.0})"), 32768);  // is in it already
  EXPECT_EQ(context(R"({"type": "yarn", "factor": 1e300})"), 32768);
  const Config inferred = normalised(R"({"max_position_embeddings": 32768, "rope_scaling":
      {"type": "yarn", "factor": 4.0}})");
  EXPECT_EQ(
      *inferred.object("rope_scaling")->integer("original_max_position_embeddings", 1, 1 << 20),
      32768);
}

TEST(NormaliseConfig, RefusesAnUnknownQuantisationByName) {
  const auto error = [](std::string_view quantization) {
    Config config = *Config::parse(R"({"quantization_config": )" + std::string(quantization) + "}",
                                   "config.json");
    const Status status = normalise_config(config);
    return status ? std::string("no error") : status.error().message;
  };
  for (const char* known :
       {"null", "{}", R"({"quant_method": "fp8", "weight_block_size": [128, 128]})",
        R"({"quant_method": "fp8", "fmt": "e4m3", "scale_fmt": "ue8m0"})"})
    EXPECT_EQ(error(known), "no error") << known;
  for (const char* method : {"awq", "gptq", "bitsandbytes", "compressed-tensors", "mxfp4", "hqq"})
    EXPECT_NE(error(R"({"bits": 4, "quant_method": ")" + std::string(method) + "\"}")
                  .find("quant_method \"" + std::string(method) + "\" is not known"),
              std::string::npos);
  EXPECT_NE(error(R"({"load_in_4bit": true})").find("no \"quant_method\""), std::string::npos);
  EXPECT_NE(error(R"({"quant_method": "fp8", "fmt": "e5m2"})").find("fmt \"e5m2\""),
            std::string::npos);
}

TEST(Config, TellsWhatNobodyAskedFor) {
  const Config config = parsed(R"({"a": 1, "b": null, "c": {"d": 1}, "e": 2, "f": 3})").watched();
  Config copy = config;
  copy.set("a", "2");
  EXPECT_EQ(*copy.integer("a", 0, 9), 2);
  EXPECT_TRUE(config.object("c"));
  EXPECT_FALSE(config.has("x"));
  EXPECT_EQ(config.unasked(), (std::vector<std::string>{"e", "f"}));
}

}  // namespace
}  // namespace hadal
