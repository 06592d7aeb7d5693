// Banks of adapters: which matrices they lie beside, what they hold, and what is refused why.
#include "weights/adapters.h"

#include <gtest/gtest.h>

#include "checkpoint/adapter_testing.h"
#include "weights/testing.h"

namespace hadal {
namespace {

using testing::adapter_tensor;
using testing::AdapterFolder;
using testing::AdapterTensor;
using testing::bytes_of;
using testing::StoredTensor;
using testing::TestCheckpoint;

StoredTensor zeros(const std::string& name, const std::string& shape, size_t count) {
  return {name, "F32", shape, bytes_of(std::vector<float>(count))};
}

/// A model of a few matrices: q_proj [4, 3] and o_proj [3, 4] of a layer, and what no adapter may
/// have.
struct Model {
  Model()
      : checkpoint({zeros(kLayer + "self_attn.q_proj.weight", "4,3", 12),
                    zeros(kLayer + "self_attn.o_proj.weight", "3,4", 12),
                    zeros(kLayer + "self_attn.kv_b_proj.weight", "4,2", 8),
                    zeros(kLayer + "mlp.experts.0.up_proj.weight", "2,3", 6),
                    zeros("model.embed_tokens.weight", "5,3", 15),
                    zeros("lm_head.weight", "5,3", 15)}) {
    WeightBinder b(*checkpoint, weights);
    q = b.matrix(kLayer + "self_attn.q_proj.weight", 4, 3);
    o = b.matrix(kLayer + "self_attn.o_proj.weight", 3, 4);
    b.head_rows(kLayer + "self_attn.kv_b_proj.weight", 2, 2, 0, 1, 2, true);
    b.experts(kLayer + "mlp.experts.", "up_proj.weight", 1, 2, 3);
    b.matrix("model.embed_tokens.weight", 5, 3, HADAL_USE_GATHER);
    b.matrix("lm_head.weight", 5, 3);
    std::vector<std::string> unused;
    EXPECT_TRUE(b.finish(unused));
  }
  static inline const std::string kLayer = "model.layers.0.";
  TestCheckpoint checkpoint;
  std::deque<Weight> weights;
  Weight *q = nullptr, *o = nullptr;
};

std::string tensor_name(const std::string& module, const char* which) {
  return "base_model.model." + module + ".lora_" + which + ".weight";
}

/// An adapter of one module.
AdapterFolder folder_of(const std::string& module, const std::vector<int64_t>& a,
                        const std::vector<int64_t>& b) {
  return AdapterFolder(R"({"r": )" + std::to_string(a[0]) + R"(, "lora_alpha": 1})",
                       {adapter_tensor(tensor_name(module, "A"), "F32", a, 1.0f),
                        adapter_tensor(tensor_name(module, "B"), "F32", b, 1.0f)});
}

std::shared_ptr<const AdapterFile> open(const AdapterFolder& folder) {
  auto file = AdapterFile::open(folder.path());
  EXPECT_TRUE(file) << file.error().message;
  return file ? *file : nullptr;
}

struct Planned {
  std::unique_ptr<Device> device = *Device::open({.chip = "ref", .threads = 1});
  std::unique_ptr<AdapterBanks> banks;
  std::string fault;

  Planned(Model& model, std::vector<std::shared_ptr<const AdapterFile>> files,
          std::string_view type = "llama") {
    auto made = AdapterBanks::plan(*device, model.weights, type, std::move(files));
    if (made)
      banks = *std::move(made);
    else
      fault = made.error().message;
  }
};

std::string fault_of(const AdapterFolder& folder, std::string_view type = "llama") {
  Model model;
  return Planned(model, {open(folder)}, type).fault;
}

::testing::AssertionResult says(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    if (message.find(part) == std::string::npos)
      return ::testing::AssertionFailure() << "no \"" << part << "\" in: " << message;
  return ::testing::AssertionSuccess();
}

const std::string kQ = "model.layers.0.self_attn.q_proj";

TEST(AdapterBanks, WhatCannotBeAdaptedIsRefusedByNameWithTheReason) {
  EXPECT_EQ(fault_of(folder_of(kQ, {2, 3}, {4, 2})), "");
  EXPECT_EQ(fault_of(folder_of("layers.0.self_attn.q_proj", {2, 3}, {4, 2})), "");
  const std::string layer = "model.layers.0.";
  EXPECT_TRUE(says(fault_of(folder_of(layer + "self_attn.kv_b_proj", {2, 2}, {4, 2})),
                   {"kv_b_proj.lora_A.weight", "targets", "absorbs"}));
  EXPECT_TRUE(says(fault_of(folder_of(layer + "mlp.experts.0.up_proj", {1, 3}, {2, 1})),
                   {"experts.0.up_proj", "routed experts"}));
  EXPECT_TRUE(says(fault_of(folder_of("model.embed_tokens", {1, 3}, {5, 1})),
                   {"embed_tokens", "looked up"}));
  EXPECT_TRUE(says(fault_of(folder_of("lm_head", {1, 3}, {5, 1})), {"lm_head", "head"}));
  EXPECT_TRUE(says(fault_of(folder_of(layer + "self_attn.z_proj", {1, 3}, {5, 1})),
                   {"z_proj", "does not have", "q_proj, o_proj"}));
  EXPECT_TRUE(says(fault_of(folder_of("model.layers.7.self_attn.q_proj", {2, 3}, {4, 2})),
                   {"layers.7", "does not have"}));
  EXPECT_TRUE(
      says(fault_of(folder_of("layers.0.self_attn.o_a_proj", {1, 3}, {5, 1}), "deepseek_v4"),
           {"o_a_proj", "in groups"}));
}

TEST(AdapterBanks, ShapesThatDoNotFitNameBoth) {
  EXPECT_TRUE(says(fault_of(folder_of(kQ, {2, 4}, {4, 2})),
                   {"lora_A.weight\" [2, 4]", "lora_B.weight\" [4, 2]", "q_proj.weight [4, 3]",
                    "A [rank, 3]", "B [4, rank]"}));
  EXPECT_TRUE(says(fault_of(folder_of(kQ, {2, 3}, {3, 2})), {"[3, 2]", "B [4, rank]"}));
}

TEST(AdapterBanks, TwoNamesOfOneMatrixAreTooMany) {
  const AdapterFolder folder(
      R"({"r": 1, "lora_alpha": 1})",
      {adapter_tensor(tensor_name(kQ, "A"), "F32", {1, 3}, 1.0f),
       adapter_tensor(tensor_name(kQ, "B"), "F32", {4, 1}, 1.0f),
       adapter_tensor(tensor_name("layers.0.self_attn.q_proj", "A"), "F32", {1, 3}, 1.0f),
       adapter_tensor(tensor_name("layers.0.self_attn.q_proj", "B"), "F32", {4, 1}, 1.0f)});
  EXPECT_TRUE(says(fault_of(folder), {"both", "q_proj.weight"}));
}

/// What the bank beside a matrix holds: A and B, as numbers.
std::pair<std::vector<float>, std::vector<float>> held(const AdapterBanks& banks, size_t bank) {
  const auto sources = banks.sources(bank);
  return {*decode_weight(*sources.first), *decode_weight(*sources.second)};
}

TEST(AdapterBanks, LowerRanksArePaddedAndFactorsAreInB) {
  Model model;
  const AdapterFolder one(R"({"r": 1, "lora_alpha": 3})",
                          {adapter_tensor(tensor_name(kQ, "A"), "BF16", {1, 3}, {1, 2, 3}),
                           adapter_tensor(tensor_name(kQ, "B"), "BF16", {4, 1}, {1, 2, 3, 4})});
  const AdapterFolder two(
      R"({"r": 2, "lora_alpha": 1})",
      {adapter_tensor(tensor_name(kQ, "A"), "BF16", {2, 3}, {1, 1, 1, 2, 2, 2}),
       adapter_tensor(tensor_name(kQ, "B"), "BF16", {4, 2}, {2, 4, 2, 4, 2, 4, 2, 4})});
  Planned planned(model, {nullptr, open(one), open(two)});
  ASSERT_TRUE(planned.banks) << planned.fault;
  ASSERT_TRUE(planned.banks->load());
  EXPECT_GT(planned.banks->bytes(), 0U);
  const auto [a, b] = held(*planned.banks, 0);
  EXPECT_EQ(a, (std::vector<float>{0, 0, 0, 0, 0, 0,  //
                                   1, 2, 3, 0, 0, 0,  //
                                   1, 1, 1, 2, 2, 2}));
  EXPECT_EQ(b, (std::vector<float>{0, 0, 0, 0, 0, 0, 0,  0,  //
                                   3, 0, 6, 0, 9, 0, 12, 0,  //
                                   1, 2, 1, 2, 1, 2, 1,  2}));
  // Times 3 and by 2 these numbers are still numbers of bf16.
  EXPECT_EQ(planned.banks->sources(0).second->dtype, HADAL_BF16);
  EXPECT_EQ(model.q->adapters, nullptr);
  planned.banks->attach();
  ASSERT_NE(model.q->adapters, nullptr);
  EXPECT_EQ(model.o->adapters, nullptr);
  EXPECT_NE(model.q->adapters->a.weight, nullptr);
  EXPECT_EQ(planned.banks->first_unused({}), kQ + ".weight");
  EXPECT_EQ(planned.banks->first_unused({model.q->adapters}), "");
  planned.banks->detach();
  EXPECT_EQ(model.q->adapters, nullptr);
}

TEST(AdapterBanks, ATypeThatDoesNotHoldTheNumbersIsLeft) {
  Model model;
  const AdapterFolder third(R"({"r": 3, "lora_alpha": 1})",
                            {adapter_tensor(tensor_name(kQ, "A"), "F16", {3, 3}, 1.0f),
                             adapter_tensor(tensor_name(kQ, "B"), "F16", {4, 3}, 1.0f)});
  const AdapterFolder other(R"({"r": 1, "lora_alpha": 1})",
                            {adapter_tensor(tensor_name(kQ, "A"), "BF16", {1, 3}, 0.5f),
                             adapter_tensor(tensor_name(kQ, "B"), "F16", {4, 1}, 0.5f)});
  Planned planned(model, {open(third), open(other)});
  ASSERT_TRUE(planned.banks) << planned.fault;
  EXPECT_EQ(planned.banks->sources(0).first->dtype, HADAL_F32);   // of two types
  EXPECT_EQ(planned.banks->sources(0).second->dtype, HADAL_F32);  // a third is no f16
  const auto [a, b] = held(*planned.banks, 0);
  EXPECT_EQ(b[0], 1.0f / 3);
  EXPECT_EQ(a[9], 0.5f);
  const AdapterFolder huge(R"({"r": 1, "lora_alpha": 1e30})",
                           {adapter_tensor(tensor_name(kQ, "A"), "F32", {1, 3}, 1.0f),
                            adapter_tensor(tensor_name(kQ, "B"), "F32", {4, 1}, 1e30f)});
  EXPECT_TRUE(says(fault_of(huge), {"lora_B.weight", "beyond fp32"}));
}

TEST(AdapterBanks, RowsThatAFileHasInPairsAreTurnedAlike) {
  Model model;
  model.q->paired_rows = 4;  // one head of 4 rows
  const AdapterFolder folder(R"({"r": 1, "lora_alpha": 1})",
                             {adapter_tensor(tensor_name(kQ, "A"), "F32", {1, 3}, 1.0f),
                              adapter_tensor(tensor_name(kQ, "B"), "F32", {4, 1}, {0, 1, 2, 3})});
  Planned planned(model, {open(folder)});
  ASSERT_TRUE(planned.banks) << planned.fault;
  EXPECT_EQ(held(*planned.banks, 0).second, (std::vector<float>{0, 2, 1, 3}));
}

TEST(AdapterBanks, NothingIsMadeOfNoAdapters) {
  Model model;
  Planned planned(model, {nullptr, nullptr});
  ASSERT_TRUE(planned.banks);
  EXPECT_TRUE(planned.banks->empty());
  EXPECT_EQ(planned.banks->bytes(), 0U);
  EXPECT_TRUE(planned.banks->load());
}

}  // namespace
}  // namespace hadal
