// GGUF metadata as a config.json: what is read, inferred and refused.
#include <gtest/gtest.h>

#include "checkpoint/names.h"
#include "checkpoint/testing.h"

namespace hadal {
namespace {

using testing::Bytes;
using testing::gguf_start;

TEST(GgufConfig, RopeAndLists) {
  Bytes file = gguf_start(0, 8);
  file.text("general.architecture", "qwen3")
      .f32("qwen3.attention.layer_norm_rms_epsilon", 1e-6f)
      .u32("qwen3.attention.key_length", 16)
      .u32("qwen3.rope.dimension_count", 8);
  file.text("qwen3.rope.scaling.type", "yarn")
      .f32("qwen3.rope.scaling.factor", 4.0f)
      .f32("qwen3.rope.scaling.attn_factor", 0.5f);
  file.i32s("qwen3.attention.head_count_kv", {1, 2});
  const auto parsed = parse_gguf(file.span(), "f");
  ASSERT_TRUE(parsed);
  std::vector<std::string> notes;
  const auto config = gguf_config(*parsed, {.has_output = true, .embedding_rows = 10}, "f", notes);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->integer("rope_dim", 1, 100).value(), 8);
  EXPECT_EQ(config->integers("num_key_value_heads").value(), (std::vector<int64_t>{1, 2}));
  EXPECT_FALSE(config->boolean("tie_word_embeddings").value());
  EXPECT_FALSE(config->boolean("rope_interleave").value());
  EXPECT_EQ(config->integer("vocab_size", 1, 100).value(), 10);
  const Config scaling = config->object("rope_scaling").value();
  EXPECT_EQ(scaling.text("rope_type").value(), "yarn");
  EXPECT_EQ(scaling.real("factor").value(), 4.0);
  EXPECT_EQ(scaling.real("attn_factor").value(), 0.5);
}

/// The keys of a DeepSeek model, in any order, and what they become.
struct Keys {
  std::string architecture;
  std::vector<std::pair<std::string, uint32_t>> numbers;
  std::vector<std::pair<std::string, float>> reals;
  std::vector<std::pair<std::string, std::vector<int32_t>>> lists;
  std::vector<std::pair<std::string, std::string>> texts;
  std::vector<std::string> notes;

  Result<Config> config(GgufTensorFacts facts = {.has_output = true, .embedding_rows = 320}) {
    Bytes file = gguf_start(0, 1 + numbers.size() + reals.size() + lists.size() + texts.size());
    const std::string prefix = architecture + ".";
    file.text("general.architecture", architecture);
    for (const auto& [key, value] : numbers) file.u32(prefix + key, value);
    for (const auto& [key, value] : reals) file.f32(prefix + key, value);
    for (const auto& [key, value] : lists) file.i32s(prefix + key, value);
    for (const auto& [key, value] : texts) file.text(prefix + key, value);
    const auto parsed = parse_gguf(file.span(), "f");
    return gguf_config(*parsed, facts, "f", notes);
  }
  [[nodiscard]] std::string note() const {
    std::string all;
    for (const std::string& n : notes) all += n + "\n";
    return all;
  }
};

/// A latent-attention model of this shape that says none of what old files leave out.
Keys old_latent(uint32_t layers, uint32_t hidden, uint32_t experts, bool sigmoid, bool compressed) {
  Keys k{.architecture = "deepseek2"};
  k.numbers = {{"block_count", layers},       {"embedding_length", hidden},
               {"expert_count", experts},     {"attention.head_count", 16},
               {"attention.key_length", 192}, {"attention.value_length", 128},
               {"rope.dimension_count", 64}};
  if (sigmoid) k.numbers.emplace_back("expert_gating_func", 2);
  if (compressed) k.numbers.emplace_back("attention.q_lora_rank", 1536);
  k.reals = {{"attention.layer_norm_rms_epsilon", 1e-6f}, {"rope.scaling.factor", 40.0f}};
  k.texts = {{"rope.scaling.type", "yarn"}};
  return k;
}

TEST(GgufConfig, WhatOldFilesLeaveOutIsTakenFromThePublishedModelAndSaid) {
  Keys v3 = old_latent(61, 7168, 256, true, true);
  const auto config = v3.config();
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->integer("n_group", 0, 99).value(), 8);
  EXPECT_EQ(config->integer("topk_group", 0, 99).value(), 4);
  EXPECT_EQ(config->real("routed_scaling_factor").value(), 2.5);
  const Config scaling = config->object("rope_scaling").value();
  EXPECT_EQ(scaling.real("mscale_all_dim").value(), 1.0);
  EXPECT_EQ(scaling.integer("original_max_position_embeddings", 1, 1 << 20).value(), 4096);
  EXPECT_EQ(v3.notes.size(), 5u) << v3.note();
  EXPECT_NE(v3.note().find("key \"deepseek2.expert_group_count\" is missing: taken as 8, which "
                           "DeepSeek-V3 has (61 layers, hidden size 7168, 256 experts)"),
            std::string::npos)
      << v3.note();

  Keys lite = old_latent(27, 2048, 64, false, false);
  const auto small = lite.config();
  ASSERT_TRUE(small) << small.error().message;
  EXPECT_FALSE(small->has("n_group"));  // without compressed queries: no groups, nothing to say
  EXPECT_EQ(small->real("routed_scaling_factor").value(), 1.0);
  EXPECT_NEAR(small->object("rope_scaling").value().real("mscale_all_dim").value(), 0.707, 1e-6);
  EXPECT_EQ(lite.notes.size(), 3u) << lite.note();

  Keys nothing = old_latent(61, 7168, 256, true, true);
  nothing.reals.pop_back();
  nothing.texts.clear();
  const auto yarn = nothing.config();
  ASSERT_TRUE(yarn) << yarn.error().message;
  EXPECT_EQ(yarn->object("rope_scaling").value().real("factor").value(), 40);
  EXPECT_NE(nothing.note().find("rope.scaling.type\" is missing: taken as yarn"),
            std::string::npos);
}

TEST(GgufConfig, WhatNoPublishedModelTellsIsRefusedByItsKey) {
  const auto refusal = [](Keys k) {
    const auto config = k.config();
    return config ? "no error" : config.error().message;
  };
  Keys k = old_latent(3, 72, 16, true, true);
  const auto expect = [&](const char* key, const char* why) {
    const std::string message = refusal(k);
    EXPECT_NE(message.find(std::string("key \"deepseek2.") + key + "\": missing"),
              std::string::npos)
        << message;
    EXPECT_NE(message.find(why), std::string::npos) << message;
  };
  const char* none =
      "no published model has the file's shape (3 layers, hidden size 72, 16 experts)";
  expect("expert_weights_scale", none);
  k.reals.emplace_back("expert_weights_scale", 2.5f);
  expect("expert_group_count", none);
  k.numbers.emplace_back("expert_group_count", 4);
  expect("expert_group_used_count", none);
  k.numbers.emplace_back("expert_group_used_count", 2);
  expect("rope.scaling.original_context_length", none);
  k.numbers.emplace_back("rope.scaling.original_context_length", 32);
  expect("rope.scaling.yarn_log_multiplier", none);
  k.reals.emplace_back("rope.scaling.yarn_log_multiplier", 0.1f);
  EXPECT_EQ(refusal(k), "no error");
  k.numbers[k.numbers.size() - 3].second = 0;  // expert_group_count
  EXPECT_EQ(k.config()->integer("n_group", 0, 9).value(), 1);
  EXPECT_EQ(k.config()->integer("topk_group", 0, 9).value(), 1);
  // V2 and V2.5 have one shape and two multipliers.
  k = old_latent(60, 5120, 160, false, true);
  expect("rope.scaling.yarn_log_multiplier", "differ in it");
}

/// V4.1 as GGUF's own keys say it, but for Engram's hash.
Keys v41_keys() {
  Keys k{.architecture = "deepseek41"};
  k.numbers = {{"block_count", 4},
               {"embedding_length", 48},
               {"expert_count", 5},
               {"engram.head_count", 3},
               {"engram.key_length", 12},
               {"engram.max_ngram_size", 3},
               {"attention.candidate_source_layer_id", 2}};
  k.reals = {{"attention.layer_norm_rms_epsilon", 1e-20f}, {"expert_weights_scale", 1.5f}};
  k.lists = {{"attention.compress_ratios", {0, 2, 1, 1}},
             {"attention.kv_source_layer_ids", {1, 2}},
             {"attention.index_source_layer_ids", {1, 2, 3}},
             {"engram.layer_ids", {1}}};
  return k;
}
const GgufTensorFacts kV41Facts{.has_output = true,
                                .embedding_rows = 320,
                                .compressor_layers = {1, 2},
                                .indexer_layers = {1, 2, 3},
                                .engram_rows = {{1, 500}},
                                .engram_columns = 72};

TEST(GgufConfig, BothFormsOfEngramGiveTheSameConfig) {
  Keys numbers = v41_keys(), tables = v41_keys();
  numbers.numbers.insert(
      numbers.numbers.end(),
      {{"engram.vocab_size", 61}, {"engram.pad_token_id", 2}, {"engram.compressed_vocab_size", 4}});
  tables.numbers.emplace_back("engram.pad_id", 3);
  tables.lists.insert(tables.lists.end(), {{"engram.token_map", {0, 1, 3, 2, 3}},
                                           {"engram.primes", {61, 67, 71, 73, 79, 83}},
                                           {"engram.multipliers", {5, 7, 9}}});
  const auto a = numbers.config(kV41Facts), b = tables.config(kV41Facts);
  ASSERT_TRUE(a) << a.error().message;
  ASSERT_TRUE(b) << b.error().message;
  EXPECT_EQ(numbers.note() + tables.note(), "");
  for (const Config* c : {&*a, &*b}) {
    EXPECT_EQ(c->text("model_type").value(), "deepseek_v41");
    EXPECT_EQ(c->integers("kv_source_layer_ids").value(), (std::vector<int64_t>{1, 2}));
    EXPECT_EQ(c->integers("engram_num_embeddings").value(), (std::vector<int64_t>{500}));
    EXPECT_EQ(c->integer("engram_vocab_size", 1, 1 << 30).value(), 61);
    EXPECT_EQ(c->integer("engram_pad_id", 0, 1 << 30).value(), 2);
    EXPECT_EQ(c->integer("engram_compressed_vocab_size", 1, 1 << 30).value(), 4);
    EXPECT_EQ(c->integer("candidate_source_layer_id", 0, 9).value(), 2);
  }
  EXPECT_EQ(b->integers("engram_multipliers").value(), (std::vector<int64_t>{5, 7, 9}));
  tables.numbers.back().second = 9;
  EXPECT_NE(tables.config(kV41Facts).error().message.find("engram.token_map maps no token"),
            std::string::npos);
}

TEST(GgufConfig, V41TakesWhatTensorsAndThePublishedModelShow) {
  Keys k = v41_keys();
  k.lists.erase(k.lists.begin() + 1, k.lists.begin() + 3);
  EXPECT_NE(k.config(kV41Facts).error().message.find(
                "key \"deepseek41.engram.vocab_size\": missing, and no published model"),
            std::string::npos);
  EXPECT_NE(k.note().find("attention.index_source_layer_ids\" is missing: taken as [1, 2, 3]"),
            std::string::npos)
      << k.note();
  k.numbers[0].second = 40;
  k.numbers[1].second = 5120;
  k.numbers[2].second = 384;
  const auto flash = k.config(kV41Facts);
  ASSERT_TRUE(flash) << flash.error().message;
  EXPECT_EQ(flash->integer("engram_vocab_size", 1, 1 << 30).value(), 16000000);
  EXPECT_EQ(flash->integer("engram_compressed_vocab_size", 1, 1 << 30).value(), 99092);
}

TEST(GgufConfig, V41UnderOfficialNames) {
  Keys flat{.architecture = "deepseek41"};
  flat.numbers = {{"num_hidden_layers", 4}, {"hidden_size", 48}, {"rope_scaling.beta_fast", 32}};
  flat.reals = {{"rms_norm_eps", 1e-20f}, {"rope_scaling.factor", 16.0f}};
  flat.lists = {{"kv_source_layer_ids", {1, 2}},
                {"engram.layer_ids", {1}},
                {"engram.token_map", {0, 1}},
                {"engram.primes", {61, 67, 71, 73, 79, 83}},
                {"engram.multipliers", {5, 7, 9}}};
  flat.numbers.emplace_back("engram.pad_id", 1);
  flat.texts = {{"scoring_func", "sqrtsoftplus"}};
  const auto a = flat.config(kV41Facts);
  ASSERT_TRUE(a) << a.error().message;
  EXPECT_EQ(a->integer("hidden_size", 1, 99).value(), 48);
  EXPECT_EQ(a->integer("engram_max_ngram_size", 1, 99).value(), 3);
  EXPECT_EQ(a->integer("engram_n_heads", 1, 99).value(), 3);
  EXPECT_EQ(a->integer("engram_head_dim", 1, 99).value(), 12);
  EXPECT_EQ(a->integer("engram_pad_id", 0, 99).value(), 1);
  EXPECT_EQ(a->object("rope_scaling").value().text("rope_type").value(), "yarn");
  EXPECT_EQ(a->text("scoring_func").value(), "sqrtsoftplus");

  Keys whole{.architecture = "deepseek41"};
  whole.texts = {
      {"config", R"({"model_type": "deepseek_v41", "text_config": {"hidden_size": 64}})"}};
  const auto b = whole.config(kV41Facts);
  ASSERT_TRUE(b) << b.error().message;
  EXPECT_EQ(b->integer("hidden_size", 1, 99).value(), 64);
  whole.texts[0].second = "{";
  EXPECT_NE(whole.config(kV41Facts).error().message.find("\"deepseek41.config\""),
            std::string::npos);
}

}  // namespace
}  // namespace hadal
