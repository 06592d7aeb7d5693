// Which family a configuration makes, what it takes for keys that are left out, and what is
// refused by name.
#include <gtest/gtest.h>

#include "checkpoint/names.h"
#include "models/model.h"

namespace hadal {
namespace {

constexpr std::string_view kLlama = R"("vocab_size": 32, "hidden_size": 64, "num_hidden_layers": 2,
  "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 512)";
constexpr std::string_view kV3 = R"("vocab_size": 32, "hidden_size": 64, "num_hidden_layers": 4,
  "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 512,
  "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
  "n_routed_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 24)";

/// Of a folder's config.json with these keys behind the others.
Result<std::unique_ptr<Model>> model_of(std::string_view keys, std::string_view more) {
  HADAL_TRY(Config config,
            Config::parse("{" + std::string(keys) + ", " + std::string(more) + "}", "c.json"));
  HADAL_TRY(normalise_config(config));
  HADAL_TRY(check_config(config));
  return make_model(config);
}

/// The field that the family shows to people; "" if it shows none of that name.
std::string field(std::string_view keys, std::string_view more, std::string_view name) {
  const auto model = model_of(keys, more);
  if (!model) return model.error().message;
  for (const auto& [key, value] : (*model)->spec().fields)
    if (key == name) return value;
  return "";
}

std::string error_of(std::string_view keys, std::string_view more) {
  const auto model = model_of(keys, more);
  return model ? "no error" : model.error().message;
}

TEST(Registry, FamilyOfTheClassWhereModelTypeSaysNothing) {
  for (const char* type : {R"("model_type": "", )", "", R"("model_type": null, )"}) {
    const auto model =
        model_of(kV3, std::string(type) + R"("architectures": ["DeepseekV3ForCausalLM"])");
    ASSERT_TRUE(model) << type << model.error().message;
    EXPECT_EQ((*model)->spec().family, "deepseek_v3");
  }
  EXPECT_EQ(error_of(kLlama, R"("hidden_act": "silu")"),
            "c.json: names no architecture (model_type)");
  EXPECT_NE(
      error_of(kLlama, R"("model_type": "x\u001b", "architectures": ["Y"])").find("\"x\\x1b\""),
      std::string::npos);
}

TEST(Registry, LookAlikesRunUnlessTheySayMore) {
  constexpr std::string_view kKimi = R"("model_type": "kimi_k2", "n_group": 1, "topk_group": 1,
    "architectures": ["DeepseekV3ForCausalLM"], "auto_map": {"AutoConfig": "x"}, "ep_size": 1,
    "aux_loss_alpha": 0.001, "seq_aux": true, "attention_bias": false, "attention_dropout": 0.0,
    "bos_token_id": 1, "eos_token_id": [2, 3], "moe_layer_freq": 1, "num_key_value_heads": 4,
    "num_nextn_predict_layers": 0, "pretraining_tp": 1, "use_cache": true, "hidden_act": "silu",
    "scoring_func": "sigmoid", "topk_method": "noaux_tc", "norm_topk_prob": true,
    "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.48.3",
    "initializer_range": 0.02, "rope_theta": 50000.0, "rope_scaling": {"type": "yarn",
    "factor": 32.0, "original_max_position_embeddings": 16, "beta_fast": 1.0, "beta_slow": 1.0})";
  const auto with = [&](std::string_view more) { return std::string(kKimi) + std::string(more); };
  const auto model = model_of(kV3, kKimi);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ((*model)->spec().family, "deepseek_v3");
  for (const char* neutral : {R"(, "use_qk_norm": false)", R"(, "partial_rotary_factor": 1.0)",
                              R"(, "logit_scale": 1)", R"(, "gate_of_heads": null)"})
    EXPECT_EQ(error_of(kV3, with(neutral)), "no error") << neutral;
  for (const char* strange :
       {R"(, "use_qk_norm": true)", R"(, "logit_scale": 2)", R"(, "gate_of_heads": 1)",
        R"(, "sliding_window": 4096)", R"(, "index_topk": 8)"}) {
    const std::string message = error_of(kV3, with(strange));
    const std::string key(strange + 2, std::string_view(strange).find(':') - 2);
    EXPECT_NE(message.find(key), std::string::npos) << message;
    EXPECT_NE(message.find("\"kimi_k2\""), std::string::npos) << message;
  }
  EXPECT_NE(error_of(kV3, R"("model_type": "x", "architectures": ["DeepseekV3ForCausalLM"],
                              "n_group": 1, "topk_group": 1, "partial_rotary_factor": 0.5)")
                .find("\"partial_rotary_factor\": 0.5"),
            std::string::npos);
  // A class of its own keeps to what its published code reads.
  EXPECT_EQ(error_of(kLlama, R"("model_type": "llama", "gate_of_heads": 1)"), "no error");
}

TEST(Registry, KeysThatAreLeftOut) {
  const auto v3 = [](std::string_view more, std::string_view name) {
    return field(
        kV3, R"("model_type": "deepseek_v3", "n_group": 1, "topk_group": 1)" + std::string(more),
        name);
  };
  EXPECT_EQ(v3("", "scoring_func"), "sigmoid");
  EXPECT_EQ(v3("", "routed_scaling_factor"), "2.500000");
  EXPECT_EQ(v3("", "q_lora_rank"), "1536");
  EXPECT_EQ(v3("", "first_k_dense_replace"), "3");
  EXPECT_EQ(v3(R"(, "q_lora_rank": null)", "q_lora_rank"), "");  // null: there is none
  EXPECT_EQ(v3(R"(, "n_shared_experts": null)", "n_shared_experts"), "0");
  EXPECT_EQ(v3(R"(, "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"])",
               "first_k_dense_replace"),
            "1");
  EXPECT_NE(v3(R"(, "mlp_layer_types": ["dense", "sparse", "dense", "sparse"])", "")
                .find("\"dense\" at layer 2"),
            std::string::npos);
  EXPECT_EQ(field(kV3, R"("model_type": "deepseek_v3", "n_shared_experts": 2)", "n_group"), "8");
  constexpr std::string_view kV2 = R"("model_type": "deepseek_v2", "n_group": 4)";
  EXPECT_EQ(field(kV3, kV2, "scoring_func"), "softmax");
  EXPECT_EQ(field(kV3, kV2, "n_shared_experts"), "2");
  EXPECT_EQ(field(kV3, kV2, "n_group"), "");  // topk_method greedy looks at no groups
  constexpr std::string_view kQwen3 = R"("model_type": "qwen3", "num_key_value_heads": 2)";
  EXPECT_EQ(field(kLlama, kQwen3, "head_dim"), "128");
  EXPECT_EQ(field(kLlama, kQwen3, "qk_norm"), "true");
  EXPECT_EQ(field(kLlama, R"("model_type": "llama")", "head_dim"), "16");
  EXPECT_EQ(field(kLlama, R"("model_type": "llama")", "qk_norm"), "false");
  EXPECT_EQ(field(kLlama, R"("model_type": "qwen2", "num_key_value_heads": 2,
                             "attention_bias": false)",
                  "attention_bias"),
            "true");
}

TEST(Registry, WhatAGgufDoesNotSayIsNotThere) {
  Config config = *Config::parse("{" + std::string(kV3) + R"(, "model_type": "deepseek_v3"})", "g");
  config.set_says_all();
  const auto model = make_model(config);
  ASSERT_TRUE(model) << model.error().message;
  for (const auto& [key, value] : (*model)->spec().fields) {
    EXPECT_NE(key, "q_lora_rank");
    if (key == "n_shared_experts") {
      EXPECT_EQ(value, "0");
    }
  }
}

TEST(Registry, SlidingWindows) {
  constexpr std::string_view kOn = R"("num_key_value_heads": 2, "use_sliding_window": true,
    "max_window_layers": 1)";
  EXPECT_EQ(field(kLlama, R"("model_type": "qwen2", )" + std::string(kOn), "sliding_window"),
            "4096 positions on 1 layers");
  EXPECT_EQ(field(kLlama, R"("model_type": "llama", )" + std::string(kOn), "sliding_window"), "");
  EXPECT_NE(error_of(kLlama, R"("model_type": "qwen2", "num_key_value_heads": 2,
                     "layer_types": ["full_attention", "sliding_attention"])")
                .find("use_sliding_window"),
            std::string::npos);
}

TEST(Registry, WhatIsThereForDrafts) {
  constexpr std::string_view kV4 = R"("model_type": "deepseek_v4", "vocab_size": 32,
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16,
    "max_position_embeddings": 512, "qk_rope_head_dim": 8, "q_lora_rank": 16, "o_groups": 2,
    "o_lora_rank": 8, "sliding_window": 16, "index_n_heads": 4, "index_head_dim": 16,
    "index_topk": 8, "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24)";
  constexpr std::string_view kBlock = R"("dspark_block_size": 5, "dspark_markov_rank": 4,
    "dspark_noise_token_id": 31, "dspark_target_layer_ids": [0, 1])";
  const auto draft_of = [](std::string_view keys, std::string more) -> Result<DraftSpec> {
    HADAL_TRY(Config config, Config::parse("{" + std::string(keys) + ", " + more + "}", "c.json"));
    HADAL_TRY(const std::unique_ptr<Model> model, make_model(config, {.draft = true}));
    return model->spec().draft;
  };
  const auto v3 = draft_of(kV3, R"("model_type": "deepseek_v3", "num_nextn_predict_layers": 1)");
  ASSERT_TRUE(v3) << v3.error().message;
  EXPECT_TRUE(v3->is_mtp());
  EXPECT_EQ(v3->hidden, 64);
  const auto mtp = draft_of(kV4, R"("compress_ratios": [0, 4], "num_nextn_predict_layers": 1)");
  ASSERT_TRUE(mtp) << mtp.error().message;
  EXPECT_TRUE(mtp->is_mtp());
  EXPECT_EQ(mtp->hidden, 4 * 64);
  EXPECT_EQ(mtp->reach(), 1);
  // The published file counts the preview's one layer, and has as many stages as ratios.
  const auto block = draft_of(kV4, std::string(kBlock) + R"(, "compress_ratios": [0, 4, 0, 0, 0],
                              "num_nextn_predict_layers": 1)");
  ASSERT_TRUE(block) << block.error().message;
  EXPECT_TRUE(block->is_dspark());
  EXPECT_EQ(block->hidden, 2 * 64);
  EXPECT_EQ(block->reach(), 5);
  EXPECT_EQ(block->noise_token, 31);

  const auto refused = [&](std::string more, const char* why) {
    const auto spec = draft_of(kV4, R"("compress_ratios": [0, 4], )" + std::move(more));
    ASSERT_FALSE(spec) << why;
    EXPECT_NE(spec.error().message.find(why), std::string::npos) << spec.error().message;
  };
  refused(R"("num_nextn_predict_layers": 0)", "nothing for drafts");
  refused(std::string(kBlock), "0 stages");
  const std::string one = R"("num_nextn_predict_layers": 1, "dspark_block_size": 5, )";
  refused(one + R"("dspark_markov_rank": 4, "dspark_noise_token_id": 32)", "dspark_noise_token_id");
  refused(one + R"("dspark_markov_rank": 4, "dspark_noise_token_id": 1,
                   "dspark_target_layer_ids": [1, 0])",
          "dspark_target_layer_ids");
  refused(one + R"("dspark_markov_rank": 4, "dspark_noise_token_id": 1,
                   "dspark_target_layer_ids": [0, 2])",
          "dspark_target_layer_ids");
  refused(one + R"("dspark_noise_token_id": 1, "dspark_target_layer_ids": [0])",
          "dspark_markov_rank");
  refused(R"("num_nextn_predict_layers": 1, "dspark_block_size": 0)", "dspark_block_size");
}

TEST(Registry, ActivationsAndPartsOfHeads) {
  const auto llama = [](std::string_view more) {
    return error_of(kLlama, R"("model_type": "llama", )" + std::string(more));
  };
  EXPECT_EQ(llama(R"("hidden_act": "swish")"), "no error");
  EXPECT_NE(llama(R"("hidden_act": "gelu")").find("hidden_act \"gelu\" is not known"),
            std::string::npos);
  EXPECT_EQ(llama(R"("partial_rotary_factor": 0.5)"), "no error");
  EXPECT_NE(llama(R"("partial_rotary_factor": 0.5, "rope_scaling": {"type": "linear",
                     "factor": 2.0})")
                .find("partial_rotary_factor"),
            std::string::npos);
  EXPECT_NE(error_of(kV3, R"("model_type": "deepseek_v2", "mlp_bias": true)").find("mlp_bias"),
            std::string::npos);
}

TEST(Registry, WhatCannotBeDividedIsRefusedInWords) {
  const auto refusal = [](std::string_view keys, std::string more, int64_t ranks) -> std::string {
    auto config = Config::parse("{" + std::string(keys) + ", " + more + "}", "c.json");
    EXPECT_TRUE(config);
    const auto model = make_model(*config, {.shard = {.rank = ranks - 1, .ranks = ranks}});
    return model ? "no error" : model.error().message;
  };
  const std::string llama = R"("model_type": "llama", "num_key_value_heads": )";
  EXPECT_EQ(refusal(kLlama, llama + "2", 2), "no error");
  EXPECT_EQ(refusal(kLlama, llama + "1", 4), "no error");  // one key head on each
  EXPECT_EQ(refusal(kLlama, llama + "4", 3),
            "c.json: num_attention_heads 4 cannot be divided over 3 ranks; it can over 1, 2, 4");
  const std::string v3 = R"("model_type": "deepseek_v3")";
  EXPECT_EQ(refusal(kV3, v3, 2), "no error");
  EXPECT_NE(refusal(kV3, v3, 3).find("cannot be divided over 3 ranks"), std::string::npos);
}

}  // namespace
}  // namespace hadal
