// Adapters as peft writes them: what is read, and what is refused by which name.
#include "checkpoint/adapter_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "checkpoint/adapter_testing.h"

namespace hadal {
namespace {

using testing::adapter_tensor;
using testing::AdapterFolder;
using testing::TempFolder;

const std::string kQ = "base_model.model.model.layers.0.self_attn.q_proj";

/// Two modules of rank 2 on a matrix [3, 4].
AdapterFolder whole(const std::string& config = R"({"r": 2, "lora_alpha": 4})") {
  return AdapterFolder(config, {adapter_tensor(kQ + ".lora_A.weight", "F32", {2, 4}, 1.0f),
                                adapter_tensor(kQ + ".lora_B.weight", "F32", {3, 2}, 2.0f)});
}

std::string fault(const AdapterFolder& folder) {
  const auto file = AdapterFile::open(folder.path());
  return file ? "" : file.error().message;
}

::testing::AssertionResult says(const std::string& message, std::vector<std::string> parts) {
  for (const std::string& part : parts)
    if (message.find(part) == std::string::npos)
      return ::testing::AssertionFailure() << "no \"" << part << "\" in: " << message;
  return ::testing::AssertionSuccess();
}

TEST(AdapterFile, AModuleHasItsMatricesAndItsFactor) {
  const AdapterFolder folder = whole(
      R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"],
          "bias": "none", "modules_to_save": null, "use_dora": false, "lora_dropout": 0.05,
          "base_model_name_or_path": "some/model", "init_lora_weights": true})");
  const auto file = AdapterFile::open(folder.path());
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ((*file)->modules().size(), 1U);
  const AdapterModule& m = (*file)->modules()[0];
  EXPECT_EQ(m.module, "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(m.rank(), 2);
  EXPECT_EQ(m.a.cols, 4);
  EXPECT_EQ(m.b.rows, 3);
  EXPECT_EQ(m.scale, 2);
  EXPECT_EQ((*file)->base_model(), "some/model");
  EXPECT_EQ((*file)->largest_rank(), 2);
}

TEST(AdapterFile, TheNameOfAnAdapterMayStandBeforeWeight) {
  const AdapterFolder folder(R"({"r": 2, "lora_alpha": 4})",
                             {adapter_tensor(kQ + ".lora_A.default.weight", "BF16", {2, 4}, 1),
                              adapter_tensor(kQ + ".lora_B.default.weight", "F16", {3, 2}, 1)});
  const auto file = AdapterFile::open(folder.path());
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ((*file)->modules()[0].module, "model.layers.0.self_attn.q_proj");
}

TEST(AdapterFile, FactorsOfPatternsAndOfRslora) {
  const auto scale = [](const std::string& config) {
    const AdapterFolder folder = whole(config);
    const auto file = AdapterFile::open(folder.path());
    return file ? (*file)->modules()[0].scale : std::nan("");
  };
  EXPECT_EQ(scale(R"({"r": 2, "lora_alpha": 3})"), 1.5);
  EXPECT_EQ(scale(R"({"r": 2, "lora_alpha": 3, "use_rslora": true})"), 3 / std::sqrt(2.0));
  EXPECT_EQ(scale(R"({"r": 2, "lora_alpha": 3, "alpha_pattern": {"q_proj": 8}})"), 4);
  EXPECT_EQ(scale(R"({"r": 2, "lora_alpha": 3, "alpha_pattern": {"self_attn.q_proj": 8}})"), 4);
  EXPECT_EQ(scale(R"({"r": 2, "lora_alpha": 3, "alpha_pattern": {"proj": 8, "k_proj": 9}})"), 1.5);
  EXPECT_EQ(
      scale(R"({"r": 2, "lora_alpha": 3, "alpha_pattern": {"^layers.0.self_attn.q_proj": 8}})"),
      1.5);
  EXPECT_EQ(scale(R"({"r": 2, "lora_alpha": 3,
                "alpha_pattern": {"^model.layers.0.self_attn.q_proj": 8}})"),
            4);
  EXPECT_EQ(scale(R"({"r": 8, "lora_alpha": 3, "rank_pattern": {"q_proj": 2}})"), 1.5);
  EXPECT_EQ(scale(R"({"r": 8, "lora_alpha": 3, "rank_pattern": {".*q_proj": 2}})"), 1.5);
}

TEST(AdapterFile, OtherKindsAreRefusedByTheirKeys) {
  const auto refused = [](const std::string& key, const std::string& value) {
    return fault(whole(R"({"r": 2, "lora_alpha": 4, ")" + key + "\": " + value + "}"));
  };
  EXPECT_TRUE(says(refused("peft_type", "\"IA3\""), {"adapter_config.json", "\"IA3\"", "LORA"}));
  EXPECT_TRUE(says(refused("use_dora", "true"), {"use_dora is true"}));
  EXPECT_TRUE(says(refused("bias", "\"lora_only\""), {"bias is lora_only", "none"}));
  EXPECT_TRUE(says(refused("lora_bias", "true"), {"lora_bias is true"}));
  EXPECT_TRUE(says(refused("modules_to_save", "[\"lm_head\"]"), {"modules_to_save", "lm_head"}));
  EXPECT_TRUE(says(refused("fan_in_fan_out", "true"), {"fan_in_fan_out is true"}));
  EXPECT_TRUE(says(refused("layer_replication", "[[0, 2]]"), {"layer_replication"}));
  EXPECT_TRUE(says(refused("trainable_token_indices", "[7]"), {"trainable_token_indices"}));
  EXPECT_TRUE(says(refused("use_something_new", "true"), {"use_something_new is true"}));
  EXPECT_TRUE(says(refused("kasa_config", R"({"a": 1})"), {"kasa_config is {"}));
  EXPECT_EQ(refused("eva_config", R"({"rho": 2.0})"), "");
  EXPECT_TRUE(says(refused("init_lora_weights", "\"pissa_niter_4\""), {"pissa_niter_4"}));
  EXPECT_EQ(refused("init_lora_weights", "\"gaussian\""), "");
  EXPECT_TRUE(says(refused("alpha_pattern", R"({".*q_proj": 3})"), {"alpha_pattern", ".*q_proj"}));
}

TEST(AdapterFile, TheConfigurationMustBeWhole) {
  EXPECT_TRUE(says(fault(whole("{")), {"adapter_config.json"}));
  EXPECT_TRUE(says(fault(whole(R"({"lora_alpha": 4})")), {"\"r\""}));
  EXPECT_TRUE(says(fault(whole(R"({"r": 0, "lora_alpha": 4})")), {"\"r\""}));
  EXPECT_TRUE(says(fault(whole(R"({"r": 2})")), {"lora_alpha"}));
  EXPECT_TRUE(says(fault(whole(R"({"r": 2, "lora_alpha": 1e300})")), {"lora_alpha", "1e30"}));
  EXPECT_TRUE(says(fault(whole(R"({"r": 3, "lora_alpha": 4})")), {"lora_A", "rank 2", "r 3"}));
  EXPECT_TRUE(says(fault(whole(R"({"r": 2, "lora_alpha": 4, "rank_pattern": {"q_proj": 5}})")),
                   {"rank 2", "rank_pattern 5"}));
}

TEST(AdapterFile, EveryFaultOfATensorNamesIt) {
  const auto of = [](std::vector<testing::AdapterTensor> tensors) {
    return fault(AdapterFolder(R"({"r": 2, "lora_alpha": 4})", std::move(tensors)));
  };
  const auto a = adapter_tensor(kQ + ".lora_A.weight", "F32", {2, 4}, 1);
  const auto b = adapter_tensor(kQ + ".lora_B.weight", "F32", {3, 2}, 1);
  EXPECT_EQ(of({a, b}), "");
  EXPECT_TRUE(says(of({a}), {kQ.substr(17), "lora_A.weight", "no lora_B"}));
  EXPECT_TRUE(says(of({b}), {"lora_B.weight", "no lora_A"}));
  EXPECT_TRUE(says(of({a, adapter_tensor(kQ + ".lora_B.weight", "F32", {3, 4}, 1)}),
                   {"lora_A.weight\" [2, 4]", "lora_B.weight\" [3, 4]"}));
  EXPECT_TRUE(says(of({a, adapter_tensor(kQ + ".lora_B.weight", "F32", {6}, 1)}),
                   {"lora_B.weight", "[6]", "matrix"}));
  EXPECT_TRUE(says(of({a, adapter_tensor(kQ + ".lora_B.weight", "F64", {3, 2}, 1)}),
                   {"lora_B.weight", "F64", "F32, F16 or BF16"}));
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(says(of({a, adapter_tensor(kQ + ".lora_B.weight", "F32", {3, 2}, infinity)}),
                   {"lora_B.weight", "inf", "[0, 0]"}));
  EXPECT_TRUE(says(of({adapter_tensor(kQ + ".lora_A.weight", "F16", {2, 4}, NAN), b}),
                   {"lora_A.weight", "nan"}));
  EXPECT_TRUE(says(of({a, b, adapter_tensor(kQ + ".lora_A.other.weight", "F32", {2, 4}, 1)}),
                   {"both A", "lora_A.other.weight"}));
  EXPECT_TRUE(says(of({a, b, adapter_tensor("base_model.model.lm_head.weight", "F32", {2, 4}, 1)}),
                   {"lm_head.weight", "neither lora_A nor lora_B"}));
  EXPECT_TRUE(says(of({a, b, adapter_tensor(kQ + ".lora_magnitude_vector", "F32", {2, 4}, 1)}),
                   {"lora_magnitude_vector", "DoRA"}));
  EXPECT_TRUE(
      says(of({a, b, adapter_tensor(kQ + ".lora_B.bias", "F32", {3, 1}, 1)}), {"lora_B.bias"}));
  EXPECT_TRUE(says(of({adapter_tensor("base_model.model.model.embed_tokens.lora_embedding_A", "F32",
                                      {2, 4}, 1)}),
                   {"lora_embedding_A", "embedding"}));
  EXPECT_TRUE(says(of({}), {"adapter_model.safetensors", "no tensors"}));
}

TEST(AdapterFile, AFolderThatIsNoneSaysWhatItLacks) {
  const TempFolder folder;
  const auto open = [&] { return AdapterFile::open(folder.path()).error(); };
  EXPECT_EQ(AdapterFile::open(folder.path() / "none").error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(says(open().message, {"adapter_config.json"}));
  folder.write("adapter_config.json", R"({"r": 2, "lora_alpha": 4})");
  EXPECT_TRUE(says(open().message, {"adapter_model.safetensors"}));
  folder.write("adapter_model.bin", "x");
  EXPECT_TRUE(says(open().message, {"adapter_model.bin", "safetensors"}));
  folder.write("adapter_model.safetensors", "short");
  EXPECT_TRUE(says(open().message, {"adapter_model.safetensors"}));
}

}  // namespace
}  // namespace hadal
