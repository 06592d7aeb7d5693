#include "server/ollama_models.h"

#include <gtest/gtest.h>

#include "checkpoint/digest.h"
#include "server/model_card.h"

namespace hadal::server {
namespace {

ModelCard card_of() {
  return {.name = "tiny",
          .aliases = {"other:1b", "hf.co:80/me/tiny"},
          .adapters = {"poet"},
          .digest = std::string(64, 'a'),
          .family = "qwen2",
          .parameter_size = "1.5B",
          .quantization = "Q4_K_M",
          .format = "gguf",
          .parameters = 1'543'714'304,
          .bytes = 1'117'320'768,
          .context_length = 32768,
          .served_context = 4096,
          .embedding_length = 1536,
          .layers = 28,
          .vocabulary = 151936,
          .created = 1738324800,
          .thinks = true,
          .calls_tools = true,
          .fills_middle = true,
          .chat_format = "deepseek-r1",
          .chat_template = "{{ x }}",
          .fields = {{"rope_theta", "10000"}}};
}

TEST(ModelCard, AModelIsNamedWithATagOrWithout) {
  const ModelCard card = card_of();
  for (const char* name : {"tiny", "tiny:latest", "other:1b", "other:1b:latest", "poet",
                           "poet:latest", "hf.co:80/me/tiny", "hf.co:80/me/tiny:latest"})
    EXPECT_TRUE(names_model(card, name)) << name;
  for (const char* name :
       {"", ":latest", "tin", "tiny:", "tiny:1b", "other", "Tiny", "tiny:latest:latest"})
    EXPECT_FALSE(names_model(card, name)) << name;
  const ModelCard latest{.name = "a:latest"};
  EXPECT_TRUE(names_model(latest, "a"));
  EXPECT_TRUE(names_model(latest, "a:latest"));
  EXPECT_FALSE(names_model(ModelCard{}, ""));
}

TEST(ModelCard, SizesAndTypesAreInWords) {
  EXPECT_EQ(parameter_size(671'026'419'200), "671.0B");
  EXPECT_EQ(parameter_size(1'543'714'304), "1.5B");
  EXPECT_EQ(parameter_size(134'515'008), "134.52M");
  EXPECT_EQ(parameter_size(1'600'000'000'000), "1.6T");
  EXPECT_EQ(parameter_size(12'345), "12K");
  EXPECT_EQ(gguf_file_type(15), "Q4_K_M");
  EXPECT_EQ(gguf_file_type(7), "Q8_0");
  EXPECT_EQ(gguf_file_type(32), "BF16");
  EXPECT_EQ(gguf_file_type(38), "MXFP4");
  for (const int64_t unknown : {int64_t{-1}, int64_t{4}, int64_t{39}, INT64_MIN, INT64_MAX})
    EXPECT_EQ(gguf_file_type(unknown), "");
  EXPECT_EQ(type_in_words(HADAL_F8_E4M3), "FP8");
  EXPECT_EQ(type_in_words(HADAL_F4_E2M1), "FP4");
  EXPECT_EQ(type_in_words(HADAL_BF16), "BF16");
}

/// A model of tests/golden, which has no tokenizer.
std::unique_ptr<Session> open(const std::string& name) {
  auto checkpoint = Checkpoint::open(std::string(HADAL_GOLDEN_MODELS) + "/" + name);
  EXPECT_TRUE(checkpoint) << checkpoint.error().message;
  SessionOptions options;
  options.runner.device.threads = 1;
  options.runner.context = 64;
  options.needs_tokenizer = false;
  auto session = Session::open(*std::move(checkpoint), options);
  EXPECT_TRUE(session) << session.error().message;
  return *std::move(session);
}

TEST(ModelCard, DescribesWhatIsOpen) {
  const std::unique_ptr<Session> session = open("qwen2");
  const ModelCard card = describe_model(*session, "q");
  EXPECT_EQ(card.name, "q");
  EXPECT_EQ(card.family, "qwen2");
  EXPECT_EQ(card.format, "safetensors");
  EXPECT_EQ(card.digest, hex(model_digest(session->checkpoint())));
  EXPECT_EQ(card.digest.size(), 64U);
  EXPECT_EQ(card.context_length, session->engine().spec().max_position_embeddings);
  EXPECT_EQ(card.served_context, 64);
  EXPECT_EQ(card.embedding_length, session->engine().spec().hidden_size);
  EXPECT_EQ(card.vocabulary, session->engine().spec().vocab_size);
  int64_t parameters = 0;
  for (const TensorInfo& tensor : session->checkpoint().tensors()) parameters += tensor.elements();
  EXPECT_EQ(card.parameters, parameters);
  EXPECT_GT(card.bytes, parameters);
  EXPECT_GT(card.created, 1'700'000'000);
  EXPECT_FALSE(card.quantization.empty());
  EXPECT_FALSE(card.fields.empty());
  // Without a tokenizer there is no text.
  EXPECT_TRUE(card.chat_format.empty());
  EXPECT_FALSE(card.thinks || card.calls_tools || card.fills_middle);
  EXPECT_EQ(describe_model(*open("quant-k"), "k").format, "gguf");
}

TEST(OllamaModels, TagsListTheModelAndItsAdapters) {
  const Json tags = Json::parse(tags_body(card_of()));
  ASSERT_EQ(tags["models"].size(), 2U);
  EXPECT_EQ(tags["models"][0].dump(),
            R"({"name":"tiny:latest","model":"tiny:latest",)"
            R"("modified_at":"2025-01-31T12:00:00.000000000Z","size":1117320768,"digest":")" +
                std::string(64, 'a') +
                R"(","details":{"parent_model":"","format":"gguf","family":"qwen2",)"
                R"("families":["qwen2"],"parameter_size":"1.5B","quantization_level":"Q4_K_M"}})");
  EXPECT_EQ(tags["models"][1]["name"], "poet:latest");
  EXPECT_EQ(tags["models"][1]["details"]["parent_model"], "tiny:latest");
  EXPECT_EQ(tagged("a"), "a:latest");
  EXPECT_EQ(tagged("a:1b"), "a:1b");
  EXPECT_EQ(tagged("host:80/a"), "host:80/a:latest");
  EXPECT_EQ(tagged("host:80/a:1b"), "host:80/a:1b");
}

TEST(OllamaModels, WhatRunsNeverExpires) {
  const Json ps = Json::parse(ps_body(card_of(), {.bytes = 5, .on_accelerator = 3}));
  ASSERT_EQ(ps["models"].size(), 1U);
  const Json& model = ps["models"][0];
  EXPECT_EQ(model["name"], "tiny:latest");
  EXPECT_EQ(model["size"], 5);
  EXPECT_EQ(model["size_vram"], 3);
  EXPECT_EQ(model["context_length"], 4096);
  EXPECT_EQ(model["expires_at"], "9999-12-31T23:59:59Z");
}

TEST(OllamaModels, ShowTellsWhatTheModelCanDo) {
  const Json show = Json::parse(show_body(card_of(), false));
  EXPECT_EQ(show["capabilities"].dump(), R"(["completion","tools","insert","thinking"])");
  EXPECT_EQ(show["template"], "{{ x }}");
  EXPECT_EQ(show["modelfile"], "FROM tiny:latest\n");
  EXPECT_EQ(show["parameters"], "num_ctx 4096");
  EXPECT_EQ(show["details"]["family"], "qwen2");
  EXPECT_EQ(show["model_info"]["general.architecture"], "qwen2");
  EXPECT_EQ(show["model_info"]["general.parameter_count"], 1'543'714'304);
  EXPECT_EQ(show["model_info"]["qwen2.context_length"], 32768);
  EXPECT_EQ(show["model_info"]["qwen2.embedding_length"], 1536);
  EXPECT_FALSE(show["model_info"].contains("config.rope_theta"));
  EXPECT_EQ(Json::parse(show_body(card_of(), true))["model_info"]["config.rope_theta"], "10000");
  const Json adapter = Json::parse(show_body(card_of(), false, "poet"));
  EXPECT_EQ(adapter["details"]["parent_model"], "tiny:latest");
  EXPECT_EQ(adapter["modelfile"], "FROM tiny:latest\nADAPTER poet\n");
  const auto can = [](bool ModelCard::* ability) {
    ModelCard card = card_of();
    card.thinks = card.calls_tools = card.fills_middle = false;
    if (ability) card.*ability = true;
    return Json::parse(show_body(card, false))["capabilities"].dump();
  };
  EXPECT_EQ(can(nullptr), R"(["completion"])");
  EXPECT_EQ(can(&ModelCard::calls_tools), R"(["completion","tools"])");
  EXPECT_EQ(can(&ModelCard::fills_middle), R"(["completion","insert"])");
  EXPECT_EQ(can(&ModelCard::thinks), R"(["completion","thinking"])");
  const Json version = Json::parse(version_body());
  EXPECT_EQ(version["version"], "0.12.11");
  EXPECT_TRUE(version["hadal"].is_string());
}

TEST(OllamaModels, ReadsABodyOfShow) {
  const auto read = [](const char* body) { return read_ollama_show(*parse_body(body)); };
  EXPECT_EQ(read(R"({"model":"a","verbose":true})")->model, "a");
  EXPECT_TRUE(read(R"({"model":"a","verbose":true})")->verbose);
  EXPECT_EQ(read(R"({"name":"b","system":"x"})")->model, "b");
  EXPECT_EQ(read("{}").error().message.rfind("model: is missing", 0), 0U);
  EXPECT_EQ(read(R"({"model":5})").error().message.rfind("model: a text", 0), 0U);
  EXPECT_EQ(read(R"({"model":"a","verbose":1})").error().message.rfind("verbose: true", 0), 0U);
  EXPECT_EQ(read_ollama_show(Json::array()).error().code, ErrorCode::kUsage);
}

}  // namespace
}  // namespace hadal::server
