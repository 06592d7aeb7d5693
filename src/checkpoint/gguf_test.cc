// GGUF from hand-built bytes: what is read, and that each lie is refused with its own message.
#include "checkpoint/gguf.h"

#include <gtest/gtest.h>

#include <functional>

#include "checkpoint/builder.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_writer.h"
#include "checkpoint/names.h"
#include "checkpoint/testing.h"

namespace hadal {
namespace {

using testing::Bytes;
using testing::gguf_start;
using testing::TempFolder;

/// A llama of one layer with two tensors and three tokens.
Bytes small_model() {
  Bytes file = gguf_start(2, 12);
  file.text("general.architecture", "llama")
      .u32("llama.block_count", 1)
      .u32("llama.embedding_length", 32);
  file.u32("llama.attention.head_count", 4)
      .u32("llama.context_length", 64)
      .f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  file.u32("llama.rope.dimension_count", 8)
      .text("tokenizer.ggml.model", "gpt2")
      .texts("tokenizer.ggml.tokens", {"a", "b", "\xff\n"});
  file.i32s("tokenizer.ggml.token_type", {1, 1, 3})
      .u32("tokenizer.ggml.eos_token_id", 2)
      .f32("general.sampling.temp", 0.6f);
  file.tensor("token_embd.weight", {32, 3}, 8, 0)
      .tensor("blk.0.attn_q.weight", {32, 32}, 2, 128)
      .pad(32);
  return file.raw(std::string(128 + 32 * 18, '\1'));
}

std::string error_of(const Bytes& file) {
  const auto parsed = parse_gguf(file.span(), "f");
  return parsed ? "no error" : parsed.error().message;
}

void expect_error(const Bytes& file, std::string_view part) {
  const std::string message = error_of(file);
  EXPECT_NE(message.find(part), std::string::npos) << message << "\nexpected: " << part;
}

TEST(Gguf, ReadsAModel) {
  const TempFolder folder;
  const auto opened = Checkpoint::open(folder.write("m.gguf", small_model().str()));
  ASSERT_TRUE(opened) << opened.error().message;
  const Checkpoint& c = **opened;
  EXPECT_EQ(c.description(), "GGUF v3, 1 file");
  ASSERT_EQ(c.tensors().size(), 2u);
  const TensorInfo* q = c.find("model.layers.0.self_attn.q_proj.weight");
  ASSERT_NE(q, nullptr);
  EXPECT_EQ(q->file_name, "blk.0.attn_q.weight");
  EXPECT_EQ(q->dtype, HADAL_Q4_0);
  EXPECT_EQ(q->data.size(), 32u * 18);
  EXPECT_EQ(c.find("model.embed_tokens.weight")->shape_text(), "[3, 32]");  // outermost first
  EXPECT_EQ(c.config().text("model_type").value(), "llama");
  EXPECT_EQ(c.config().integer("num_key_value_heads", 1, 100).value(), 4);  // as many as heads
  EXPECT_EQ(c.config().real("rms_norm_eps").value(), 1e-5);
  EXPECT_EQ(c.config().integer("vocab_size", 1, 100).value(), 3);
  EXPECT_TRUE(c.config().boolean("tie_word_embeddings").value());
  EXPECT_TRUE(c.config().boolean("rope_interleave").value());
  EXPECT_FALSE(c.config().has("rope_dim"));
  EXPECT_EQ(c.tokenizer().tokens[2], "\xff\n");
  EXPECT_EQ(c.tokenizer().eos_token_id, 2);
  EXPECT_NE(c.tokenizer().generation_config_json.find("\"temperature\": 0.6"), std::string::npos);
  EXPECT_EQ(c.metadata()[8],
            (std::pair<std::string, std::string>("tokenizer.ggml.tokens", "[3 strings]")));
}

TEST(Gguf, RefusesWhatNoFamilyReadsUnlessItIsNeutral) {
  const auto opened = [](std::string_view key, float value) {
    const TempFolder folder;
    const Bytes file =
        gguf_start(0, 2).text("general.architecture", "deepseek2").f32(key, value).pad(32);
    const auto checkpoint = Checkpoint::open(folder.write("m.gguf", file.str()));
    return checkpoint ? std::string("no error") : checkpoint.error().message;
  };
  EXPECT_NE(opened("deepseek2.attention.temperature_scale", 0.1f)
                .find("\"deepseek2.attention.temperature_scale\" is 0.1"),
            std::string::npos);
  EXPECT_EQ(opened("deepseek2.attention.temperature_scale", 0).find("temperature_scale"),
            std::string::npos);
  EXPECT_NE(opened("deepseek2.logit_scale", 0).find("logit_scale"), std::string::npos);
  EXPECT_EQ(opened("deepseek2.logit_scale", 1).find("logit_scale"), std::string::npos);
  EXPECT_EQ(opened("llama.logit_scale", 2).find("logit_scale"), std::string::npos);
}

TEST(Gguf, EveryTruncationIsRefused) {
  const std::string whole = small_model().str();
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string part = whole.substr(0, size);
    EXPECT_FALSE(parse_gguf(std::as_bytes(std::span(part)), "f")) << size;
  }
}

TEST(Gguf, MagicAndVersion) {
  expect_error(Bytes().raw("GGML").put<uint32_t>(3).put<uint64_t>(0).put<uint64_t>(0),
               "no GGUF file");
  expect_error(gguf_start(0, 0, 1), "version 1 is not supported");
  expect_error(gguf_start(0, 0, 0x03000000), "big-endian");
  expect_error(gguf_start(0, 0, 4), "unknown GGUF version 4");
  EXPECT_EQ(error_of(gguf_start(0, 0, 2)), "no error");
}

TEST(Gguf, CountsAreHeldAgainstTheFile) {
  for (const uint64_t count :
       {uint64_t{1} << 31, uint64_t{UINT32_MAX}, uint64_t{1} << 63, UINT64_MAX}) {
    expect_error(gguf_start(count, 0), "do not fit");
    expect_error(gguf_start(0, count), "do not fit");
    expect_error(gguf_start(0, 1).put(count).raw("key and value"), "truncated");
    expect_error(gguf_start(0, 1).key("k", 8).put(count).raw("value"), "truncated");
    for (const uint32_t type : {0u, 4u, 7u, 8u, 12u})
      expect_error(gguf_start(0, 1).key("k", 9).put(type).put(count).raw("12345678"),
                   "does not fit");
    expect_error(gguf_start(1, 0).put(count).raw(std::string(64, 'x')), "truncated");
  }
}

TEST(Gguf, Metadata) {
  expect_error(gguf_start(0, 2).u32("k", 1).u32("k", 2), "key \"k\" is there twice");
  expect_error(gguf_start(0, 1).u32("", 1).raw("pad"), "metadata key of 0 bytes");
  expect_error(gguf_start(0, 1).key("k", 13).put<uint64_t>(0), "unknown value type 13");
  expect_error(gguf_start(0, 1).key("k", 9).put<uint32_t>(9).put<uint64_t>(0), "arrays of arrays");
  expect_error(gguf_start(0, 1).key("k", 7).put<uint8_t>(2), "a bool must be 0 or 1");
  // One-byte elements take one byte each.
  const Bytes file = gguf_start(0, 2)
                         .key("k", 9)
                         .put<uint32_t>(0)
                         .put<uint64_t>(3)
                         .raw("\x01\x02\xff")
                         .u32("next", 7);
  const auto parsed = parse_gguf(file.span(), "f");
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->find("k")->integers(), (std::vector<int64_t>{1, 2, 255}));
  EXPECT_EQ(parsed->find("next")->integer(), 7);
}

TEST(Gguf, Tensors) {
  const auto one = [](const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
    return gguf_start(1, 0).tensor("t", dims, type, offset).pad(32).raw(std::string(256, '\0'));
  };
  EXPECT_EQ(error_of(one({64}, 0, 0)), "no error");
  expect_error(one({}, 0, 0), "0 dimensions");
  expect_error(one({1, 1, 1, 1, 1}, 0, 0), "5 dimensions");
  expect_error(one({0}, 0, 0), "a dimension of 0");
  expect_error(one({uint64_t{1} << 63}, 0, 0), "a dimension of 9223372036854775808");
  expect_error(one({uint64_t{1} << 62}, 0, 0), "no whole number");  // its bytes overflow
  expect_error(one({uint64_t{1} << 32, uint64_t{1} << 32}, 24, 0), "more values than fit");
  expect_error(one({33}, 2, 0), "no whole number of Q4_0 blocks");
  expect_error(one({32}, 4, 0), "unknown tensor type 4");
  expect_error(one({32}, 0xffffffff, 0), "unknown tensor type 4294967295");
  expect_error(one({32}, 0, 16), "no multiple of the alignment");
  expect_error(one({64}, 0, 32), "end beyond");
  expect_error(one({64}, 0, uint64_t{1} << 63), "end beyond");
  expect_error(one({64}, 0, UINT64_MAX - 31), "end beyond");
  expect_error(gguf_start(2, 0)
                   .tensor("a", {8}, 0, 0)
                   .tensor("a", {8}, 0, 32)
                   .pad(32)
                   .raw(std::string(64, '\0')),
               "is there twice");
  expect_error(gguf_start(2, 0)
                   .tensor("a", {16}, 0, 0)
                   .tensor("b", {8}, 0, 32)
                   .pad(32)
                   .raw(std::string(64, '\0')),
               "overlap at offset 32");
  const auto two = [](uint64_t first, uint64_t second) {
    return gguf_start(2, 0)
        .tensor("a", {8}, 0, first)
        .tensor("b", {12}, 0, second)
        .pad(32)
        .raw(std::string(256, '\0'));
  };
  EXPECT_EQ(error_of(two(0, 32)), "no error");
  EXPECT_EQ(error_of(two(64, 0)), "no error");  // 16 bytes of padding after 48
  expect_error(two(0, 64),
               "a gap between tensor \"a\" and tensor \"b\": it is at offset 64, expected 32");
  expect_error(two(32, 64), "a gap between the header and tensor \"a\"");
  expect_error(gguf_start(1, 0).tensor("a\nb", {8}, 0, 0).pad(32).raw(std::string(32, '\0')),
               "unprintable");
}

TEST(Gguf, Alignment) {
  for (const uint32_t bad : {0u, 4u, 33u, 1u << 21, 1u << 31})
    expect_error(gguf_start(1, 1)
                     .u32("general.alignment", bad)
                     .tensor("t", {8}, 0, 0)
                     .raw(std::string(4096, '\0')),
                 "general.alignment");
  const Bytes file = gguf_start(1, 1)
                         .u32("general.alignment", 64)
                         .tensor("t", {8}, 0, 0)
                         .pad(64)
                         .raw(std::string(32, '\7'));
  const auto parsed = parse_gguf(file.span(), "f");
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->tensors[0].data.front(), std::byte{7});
}

TEST(Gguf, TokenizerStaysInItsVocabulary) {
  const auto with = [](const std::function<void(Bytes&)>& rest, uint64_t keys) {
    Bytes file = gguf_start(0, keys + 2);
    file.text("general.architecture", "llama").text("tokenizer.ggml.model", "gpt2");
    rest(file);
    const TempFolder folder;
    const auto opened = Checkpoint::open(folder.write("m.gguf", file.str()));
    if (!opened) return opened.error().message;
    std::string text = "no error";
    for (const std::string& note : (*opened)->notes()) text += ", note: " + note;
    return text;
  };
  const std::string key = "tokenizer.ggml.tokens";
  EXPECT_EQ(with([&](Bytes& f) { f.texts(key, {"a"}).u32("tokenizer.ggml.bos_token_id", 0); }, 2),
            "no error");
  EXPECT_NE(with([&](Bytes& f) { f.texts(key, {"a"}).u32("tokenizer.ggml.bos_token_id", 1); }, 2)
                .find("below the 1"),
            std::string::npos);
  // What nobody uses refuses no file; what ends a generation does.
  EXPECT_EQ(
      with([&](Bytes& f) { f.texts(key, {"a"}).u32("tokenizer.ggml.padding_token_id", 7); }, 2),
      "no error, note: key \"tokenizer.ggml.padding_token_id\" is ignored: expected a token id "
      "below the 1 of the vocabulary, found uint32 7");
  EXPECT_NE(
      with([&](Bytes& f) { f.texts(key, {"a"}).u32("tokenizer.ggml.unknown_token_id", 7); }, 2)
          .find("unknown_token_id\" is ignored"),
      std::string::npos);
  EXPECT_NE(with([&](Bytes& f) { f.texts(key, {"a"}).u32("tokenizer.ggml.eot_token_id", 7); }, 2)
                .find("eot_token_id\": expected"),
            std::string::npos);
  EXPECT_NE(with([&](Bytes& f) { f.texts(key, {}); }, 1).find("at least one token"),
            std::string::npos);
  EXPECT_NE(with([](Bytes&) {}, 0).find("no such key"), std::string::npos);
  EXPECT_NE(with([&](Bytes& f) { f.i32s(key, {1, 2}); }, 1).find("an array of strings"),
            std::string::npos);
  EXPECT_NE(
      with([&](Bytes& f) { f.texts(key, {"a"}).i32s("tokenizer.ggml.token_type", {1, 1}); }, 2)
          .find("one a token"),
      std::string::npos);
  EXPECT_NE(with([&](Bytes& f) { f.texts(key, {"a"}).i32s("tokenizer.ggml.token_type", {7}); }, 2)
                .find("a type from 0 to 6"),
            std::string::npos);
  EXPECT_NE(with([&](Bytes& f) { f.texts(key, {std::string(70000, 'x')}); }, 1)
                .find("at most 65536 bytes"),
            std::string::npos);
  for (const char* token : {"<0x-1>", "<0x41>x", "<0xZZ>", "<0x100>", "<0x1>", "x"})
    EXPECT_NE(
        with([&](Bytes& f) { f.texts(key, {token}).i32s("tokenizer.ggml.token_type", {6}); }, 2)
            .find("byte token"),
        std::string::npos)
        << token;
  EXPECT_EQ(
      with([&](Bytes& f) { f.texts(key, {"<0xfF>"}).i32s("tokenizer.ggml.token_type", {6}); }, 2),
      "no error");
}

Bytes split_part(uint16_t number, uint16_t count, int32_t total, const std::string& tensor) {
  Bytes file = gguf_start(1, number == 0 ? 4 : 3);
  if (number == 0) file.text("general.architecture", "qwen2");
  file.key("split.no", 2)
      .put(number)
      .key("split.count", 2)
      .put(count)
      .key("split.tensors.count", 5)
      .put(total);
  return file.tensor(tensor, {8}, 0, 0).pad(32).raw(std::string(32, '\0'));
}

TEST(Gguf, SplitFiles) {
  const TempFolder folder;
  folder.write("m-00001-of-00002.gguf", split_part(0, 2, 2, "output_norm.weight").str());
  const auto second = folder.path() / "m-00002-of-00002.gguf";
  const auto missing = Checkpoint::open(folder.path() / "m-00001-of-00002.gguf");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kFailed);
  EXPECT_NE(missing.error().message.find("part 2 of 2 is missing"), std::string::npos);

  folder.write(second.filename().string(), split_part(1, 2, 2, "blk.0.attn_q.bias").str());
  for (const char* name : {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}) {
    const auto opened = Checkpoint::open(folder.path() / name);
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ((*opened)->description(), "GGUF v3, 2 files");
    EXPECT_EQ((*opened)->find("model.layers.0.self_attn.q_proj.bias")->file, 1u);
  }
  folder.write(second.filename().string(), split_part(0, 2, 2, "blk.0.attn_q.bias").str());
  EXPECT_FALSE(Checkpoint::open(second));  // its name says 2, it says 1
  EXPECT_NE(Checkpoint::open(folder.path() / "m-00001-of-00002.gguf")
                .error()
                .message.find("expected part 2 of 2, found part 1 of 2"),
            std::string::npos);
  folder.write(second.filename().string(), split_part(1, 2, 2, "output_norm.weight").str());
  EXPECT_NE(Checkpoint::open(second).error().message.find("is there twice"), std::string::npos);
  folder.write(second.filename().string(), split_part(1, 2, 3, "a").str());
  EXPECT_NE(
      Checkpoint::open(second).error().message.find(
          "a part of another model than m-00001-of-00002.gguf: key \"split.tensors.count\" is "
          "3 here, 2 there"),
      std::string::npos);
  folder.write("m-00001-of-00002.gguf", split_part(0, 2, 3, "output_norm.weight").str());
  EXPECT_NE(Checkpoint::open(second).error().message.find("promises 3"), std::string::npos);
  EXPECT_FALSE(Checkpoint::open(folder.write("m.gguf", split_part(0, 2, 2, "a").str())));
}

TEST(Gguf, HalvesOfKvBInTwoDimensionsBesideTheWhole) {
  // Two heads of 4 (3 for keys, 1 for values) over 8 latents, as one writer has them.
  Bytes file = gguf_start(3, 3);
  file.text("general.architecture", "deepseek2")
      .u32("deepseek2.attention.head_count", 2)
      .u32("deepseek2.block_count", 1);
  file.tensor("blk.0.attn_k_b.weight", {3, 16}, 0, 0)
      .tensor("blk.0.attn_v_b.weight", {8, 2}, 0, 192)
      .tensor("blk.0.attn_kv_b.weight", {8, 8}, 0, 256)
      .pad(32)
      .raw(std::string(512, '\0'));
  const TempFolder folder;
  const auto opened = Checkpoint::open(folder.write("m.gguf", file.str()));
  ASSERT_TRUE(opened) << opened.error().message;
  const auto shape = [&](const std::string& half) {
    return (*opened)->find("model.layers.0.self_attn." + half + "_proj.weight")->shape_text();
  };
  EXPECT_EQ(shape("k_b"), "[2, 8, 3]");
  EXPECT_EQ(shape("v_b"), "[2, 1, 8]");
  ASSERT_EQ((*opened)->notes().size(), 1u);
  EXPECT_NE((*opened)->notes()[0].find("attn_kv_b of 1 layer is ignored"), std::string::npos);
}

TEST(Gguf, PreTokenizerByName) {
  const TempFolder folder;
  const auto with = [&](const char* said, const char* named) {
    Bytes file = gguf_start(0, said ? 4 : 3);
    file.text("general.architecture", "llama")
        .text("tokenizer.ggml.model", "gpt2")
        .texts("tokenizer.ggml.tokens", {"a"});
    if (said) file.text("tokenizer.ggml.pre", said);
    auto opened = Checkpoint::open(folder.write("m.gguf", file.str()), {.pre_tokenizer = named});
    EXPECT_TRUE(opened) << opened.error().message;
    return *std::move(opened);
  };
  EXPECT_EQ(with(nullptr, "qwen2")->tokenizer().gguf_pre, "qwen2");
  EXPECT_TRUE(with(nullptr, "qwen2")->notes().empty());
  EXPECT_TRUE(with("qwen2", "qwen2")->notes().empty());
  EXPECT_EQ(with("qwen2", "")->tokenizer().gguf_pre, "qwen2");
  const auto other = with("default", "qwen2");
  EXPECT_EQ(other->tokenizer().gguf_pre, "qwen2");
  ASSERT_EQ(other->notes().size(), 1u);
  EXPECT_EQ(other->notes()[0],
            "key \"tokenizer.ggml.pre\" is \"default\": taken as \"qwen2\", as asked for");
}

TEST(Names, Tables) {
  EXPECT_EQ(official_name("llama", "output.weight"), "lm_head.weight");
  EXPECT_EQ(official_name("llama", "blk.12.ffn_down.weight"),
            "model.layers.12.mlp.down_proj.weight");
  EXPECT_EQ(official_name("qwen2", "blk.0.attn_k.bias"), "model.layers.0.self_attn.k_proj.bias");
  EXPECT_EQ(official_name("qwen3", "blk.0.attn_q_norm.weight"),
            "model.layers.0.self_attn.q_norm.weight");
  EXPECT_EQ(official_name("deepseek2", "blk.3.exp_probs_b.bias"),
            "model.layers.3.mlp.gate.e_score_correction_bias");
  EXPECT_EQ(official_name("deepseek2", "blk.3.attn_kv_a_mqa.weight"),
            "model.layers.3.self_attn.kv_a_proj_with_mqa.weight");
  for (const char* unknown :
       {"rope_freqs.weight", "blk.x.attn_q.weight", "blk.01.attn_q.weight", "blk..attn_q.weight",
        "blk.0.other.weight", "blk.0.attn_kv_b.weight", "blk.1", "output", ""})
    EXPECT_EQ(official_name("llama", unknown), unknown);
  EXPECT_EQ(official_name("deepseek41", "blk.1.engram_embd.weight"),
            "layers.1.engram.embed.weight");
  EXPECT_EQ(official_name("deepseek41", "blk.1.engram_kv.weight"),
            official_name("deepseek41", "blk.1.engram_wkv.weight"));
  EXPECT_EQ(official_name("deepseek41", "blk.2.indexer.attn_k.weight"),
            "layers.2.attn.indexer.wk.weight");
  EXPECT_EQ(official_name("gpt2", "output.weight"), "output.weight");
}

TEST(Names, SplitNames) {
  const auto split = parse_split_name("a-b-00002-of-00010.gguf");
  ASSERT_TRUE(split);
  EXPECT_EQ(split->number, 2);
  EXPECT_EQ(split->name(10), "a-b-00010-of-00010.gguf");
  for (const char* other : {"a.gguf", "a-00000-of-00002.gguf", "a-00003-of-00002.gguf",
                            "a-0001-of-0002.gguf", "a-0000x-of-00002.gguf", "", "gguf"})
    EXPECT_FALSE(parse_split_name(other)) << other;
}

TEST(GgufWriter, WhatIsWrittenIsRead) {
  GgufWriter w;
  w.add_text("general.architecture", "llama");
  w.add_u32("u", 4000000000);
  w.add_f32("f", 0.25);
  w.add_bool("b", true);
  w.add_texts("texts", std::vector<std::string>{"a", "", "\xff"});
  w.add_i32s("numbers", std::vector<int64_t>{-1, 70000});
  w.add_f32s("reals", std::vector<double>{0.5, -2});
  w.add_tensor("first.weight", HADAL_Q8_0, std::vector<int64_t>{3, 32});
  w.add_tensor("second.bias", HADAL_F32, std::vector<int64_t>{5});
  Bytes file;
  file.raw(w.header());
  const size_t data = file.str().size();
  file.raw(std::string(static_cast<size_t>(w.data_bytes()), '\1'));
  const auto read = parse_gguf(file.span(), "f");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->find("general.architecture")->text(), "llama");
  EXPECT_EQ(read->find("u")->integer(), 4000000000);
  EXPECT_EQ(read->find("f")->real(), 0.25);
  EXPECT_EQ(read->find("b")->boolean(), true);
  std::vector<std::string> texts;
  read->find("texts")->for_each_string([&](std::string_view text) {
    texts.emplace_back(text);
    return true;
  });
  EXPECT_EQ(texts, (std::vector<std::string>{"a", "", "\xff"}));
  EXPECT_EQ(read->find("numbers")->integers(), (std::vector<int64_t>{-1, 70000}));
  EXPECT_EQ(read->find("reals")->reals(), (std::vector<double>{0.5, -2}));
  ASSERT_EQ(read->tensors.size(), 2U);
  EXPECT_EQ(read->tensors[0].shape, (std::vector<int64_t>{3, 32}));
  EXPECT_EQ(read->tensors[0].dtype, HADAL_Q8_0);
  EXPECT_EQ(read->tensors[1].name, "second.bias");
  EXPECT_EQ(data % GgufWriter::kAlignment, 0U);
  EXPECT_EQ(w.data_bytes(), 128 + 32);  // 3 · 34 and 5 · 4, padded

  GgufWriter again;  // every value as it was
  for (const auto& [key, value] : read->metadata) again.copy(key, value);
  again.add_tensor("first.weight", HADAL_Q8_0, std::vector<int64_t>{3, 32});
  again.add_tensor("second.bias", HADAL_F32, std::vector<int64_t>{5});
  EXPECT_EQ(again.header(), w.header());
}

TEST(GgufNames, TheWayBackIsTheWayThere) {
  for (const char* type : {"llama", "qwen2", "qwen3", "deepseek", "deepseek_v3", "deepseek_v32"}) {
    const Architecture* architecture = gguf_architecture(type);
    ASSERT_NE(architecture, nullptr) << type;
    for (const char* name : {"token_embd.weight", "output.weight", "blk.12.attn_q.weight",
                             "blk.0.ffn_down.weight", "blk.3.attn_v.bias"})
      EXPECT_EQ(gguf_name(*architecture, official_name(architecture->gguf, name)), name);
    if (!architecture->experts) continue;
    for (const char* name : {"blk.5.exp_probs_b.bias", "blk.5.ffn_gate_exps.weight"})
      EXPECT_EQ(gguf_name(*architecture, official_name(architecture->gguf, name)), name);
    if (!architecture->latent) continue;
    for (const char* name :
         {"blk.5.attn_k_b.weight", "blk.7.indexer.k_norm.bias", "blk.61.nextn.eh_proj.weight"})
      EXPECT_EQ(gguf_name(*architecture, official_name(architecture->gguf, name)), name);
  }
  const Architecture* v4 = gguf_architecture("deepseek_v4");
  for (const char* name :
       {"output_hc_fn.weight", "blk.42.attn_sinks.weight", "blk.0.ffn_gate_tid2eid.weight"})
    EXPECT_EQ(gguf_name(*v4, official_name(v4->gguf, name)), name);
  EXPECT_EQ(gguf_name(*v4, "layers.0.strange"), "");
  EXPECT_EQ(gguf_architecture("gpt2"), nullptr);
}

}  // namespace
}  // namespace hadal
