// Safetensors files and folders, whole and wrong in one place.
#include "checkpoint/safetensors.h"
#include "checkpoint/names.h"

#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/names.h"
#include "checkpoint/testing.h"

namespace hadal {
namespace {

using testing::safetensors;
using testing::TempFolder;

std::string error_of(const std::string& file) {
  const auto parsed = parse_safetensors(std::as_bytes(std::span(file)), "f");
  return parsed ? "no error" : parsed.error().message;
}

void expect_error(std::string_view header, size_t data, std::string_view part) {
  const std::string message = error_of(safetensors(header, std::string(data, '\0')));
  EXPECT_NE(message.find(part), std::string::npos) << message << "\nexpected: " << part;
}

constexpr std::string_view kGood =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F8_E4M3","shape":[2,3],"data_offsets":[8,14]},)"
    R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"e":{"dtype":"I8","shape":[0],"data_offsets":[14,14]}}  )";

TEST(Safetensors, ReadsAFile) {
  const std::string file = safetensors(kGood, "01234567abcdef");
  const auto parsed = parse_safetensors(std::as_bytes(std::span(file)), "f");
  ASSERT_TRUE(parsed) << parsed.error().message;
  ASSERT_EQ(parsed->size(), 3u);
  EXPECT_EQ((*parsed)[0].name, "a");
  EXPECT_EQ((*parsed)[1].dtype, HADAL_F8_E4M3);
  EXPECT_EQ((*parsed)[1].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ((*parsed)[1].data.front(), std::byte{'a'});
  EXPECT_TRUE((*parsed)[2].data.empty());
  for (size_t size = 0; size < file.size(); ++size)
    EXPECT_NE(error_of(file.substr(0, size)), "no error") << size;
}

TEST(Safetensors, HeaderLength) {
  EXPECT_NE(error_of("short").find("5 bytes"), std::string::npos);
  const auto with_length = [](uint64_t length) {
    return error_of(testing::Bytes().put(length).raw("{}").str());
  };
  EXPECT_EQ(with_length(2), "no error");
  EXPECT_NE(with_length(3).find("only 2 follow"), std::string::npos);
  for (const uint64_t length : {uint64_t{100'000'001}, uint64_t{1} << 63, UINT64_MAX})
    EXPECT_NE(with_length(length).find("at most"), std::string::npos);
  EXPECT_NE(with_length(0).find("must begin with"), std::string::npos);
}

TEST(Safetensors, Lies) {
  expect_error(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8,
               "take 12 bytes, data_offsets give 8");
  expect_error(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4, "end beyond");
  expect_error(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 9,
               "9 bytes of data, the tensors take 8");
  expect_error(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8,
               "two rising numbers");
  expect_error(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", 8, "two rising numbers");
  expect_error(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "a hole before it");
  expect_error(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
      8, "overlap");
  expect_error(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
               "has no size");
  expect_error(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,0]}})", 0,
               "too large");
  expect_error(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1, "has no size");
  expect_error(R"({"a":{"dtype":"C128","shape":[1],"data_offsets":[0,16]}})", 16,
               "unknown type \"C128\"");
  expect_error(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4,
               "unexpected negative number");
  expect_error(R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4,
               "unexpected fraction");
  expect_error(R"({"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", 4, "unexpected number");
  expect_error(R"({"a":{"dtype":1,"shape":[1],"data_offsets":[0,4]}})", 4, "unexpected number");
  expect_error(R"({"a":{"dtype":["F32"],"shape":[1],"data_offsets":[0,4]}})", 4, "unexpected list");
  expect_error(R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", 4, "too many levels");
  expect_error(R"({"a":{"dtype":"F32","shape":[1]}})", 4, "expected dtype, shape and data_offsets");
  expect_error(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4,
               "unexpected key");
  expect_error(
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
      8, "twice");
  expect_error(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4,
               "twice");
  expect_error(R"({"__metadata__":{"a":1}})", 0, "unexpected number");
  expect_error(R"({"a":null})", 0, "unexpected null");
  expect_error(R"({"a\n":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, "printable");
  expect_error(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", 4,
               "more than 8");
  expect_error(R"([])", 0, "must begin with");
  expect_error(R"({"a":)", 0, "it is not valid");
  expect_error(R"({} {})", 0, "it is not valid");
  expect_error("{\"a\":" + std::string(100000, '[') + "}", 0, "too many levels");
}

/// A folder with one shard that is right; the tests break one thing each.
struct Folder {
  TempFolder temp;
  Folder() {
    write("config.json", R"({"model_type": "llama", "num_hidden_layers": 1})");
    write("model-00001-of-00002.safetensors",
          safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "1234"));
    write("model-00002-of-00002.safetensors",
          safetensors(R"({"b":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})", "1234"));
  }
  void write(const std::string& name, std::string_view text) { temp.write(name, text); }
  void index(std::string_view map) {
    write("model.safetensors.index.json",
          "{\"metadata\":{\"total_size\":8},\"weight_map\":" + std::string(map) + "}");
  }
  [[nodiscard]] std::string error() const {
    const auto opened = Checkpoint::open(temp.path());
    return opened ? "no error" : opened.error().message;
  }
  void expect(std::string_view part) const {
    EXPECT_NE(error().find(part), std::string::npos) << error() << "\nexpected: " << part;
  }
};

TEST(SafetensorsFolder, WithAndWithoutIndex) {
  Folder f;
  EXPECT_EQ(f.error(), "no error");
  f.index(R"({"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"})");
  f.write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool", "template": "T"}, {"name": "default", "template": "D"}]})");
  f.write("generation_config.json", R"({"temperature": 0.6})");
  for (const auto& path : {f.temp.path(), f.temp.path() / "model.safetensors.index.json",
                           f.temp.path() / "model-00002-of-00002.safetensors"}) {
    const auto opened = Checkpoint::open(path);
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ((*opened)->description(), "safetensors, 2 files");
    EXPECT_EQ((*opened)->find("b")->dtype, HADAL_BF16);
    EXPECT_EQ((*opened)->tokenizer().chat_template, "D");
    EXPECT_EQ((*opened)->metadata()[0].second, "llama");
  }
}

TEST(SafetensorsFolder, IndexAndFilesMustAgree) {
  Folder f;
  f.index(R"({"a":"model-00001-of-00002.safetensors","b":"model-00003-of-00002.safetensors"})");
  f.expect("missing (named by the index)");
  f.index(R"({"a":"model-00001-of-00002.safetensors","b":"model-00001-of-00002.safetensors"})");
  f.expect("\"b\" is not in model-00001-of-00002.safetensors");
  f.index(R"({"a":"model-00001-of-00002.safetensors","c":"model-00002-of-00002.safetensors"})");
  f.expect("the index does not name it");
  f.index(R"({"a":"model-00002-of-00002.safetensors","b":"model-00002-of-00002.safetensors"})");
  f.expect("\"a\" is not in");
  f.index(R"({"a":"model-00002-of-00002.safetensors","c":"model-00001-of-00002.safetensors"})");
  f.expect("the index puts it into model-00002-of-00002.safetensors");
  for (const char* name : {"../x.safetensors", "/x.safetensors", "a/b.safetensors", "x.bin", "",
                           "..", ".safetensors", "x\\u0000.safetensors", "x\\n.safetensors"}) {
    f.index(std::string(R"({"a":")") + name + "\"}");
    f.expect("is no plain name");
  }
  f.index("[]");
  f.expect("unexpected list");
  f.index("{\"a\":1}");
  f.expect("unexpected number");
  f.index(R"({"a":"x.safetensors","a":"x.safetensors"})");
  f.expect("twice");
  f.write("model.safetensors.index.json", "{}");
  f.expect("no \"weight_map\"");
}

TEST(SafetensorsFolder, MissingAndBrokenParts) {
  Folder f;
  std::filesystem::remove(f.temp.path() / "model-00001-of-00002.safetensors");
  f.expect("model-00001-of-00002.safetensors: missing");
  std::filesystem::remove(f.temp.path() / "model-00002-of-00002.safetensors");
  f.expect("no *.safetensors");
  f.write("config.json", "[]");
  f.expect("expected a JSON object");
  f.write("config.json", R"({"num_hidden_layers": 1000000000})");
  f.expect("num_hidden_layers");
  std::filesystem::remove(f.temp.path() / "config.json");
  f.expect("no config.json");
  EXPECT_EQ(Checkpoint::open(f.temp.path() / "nothing").error().code, ErrorCode::kNotFound);
  f.write("x.txt", "hello");
  EXPECT_NE(Checkpoint::open(f.temp.path() / "x.txt").error().message.find("no model"),
            std::string::npos);
}

TEST(SafetensorsFolder, TheSameTensorInTwoFiles) {
  Folder f;
  f.write("model-00002-of-00002.safetensors",
          safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "1234"));
  f.expect("is there twice");
}

/// A folder of one file with an embedding and a head of two numbers each; "" leaves one out.
Result<std::unique_ptr<Checkpoint>> open_ends(const TempFolder& temp, const std::string& embedding,
                                              const std::string& head, bool tied = true) {
  std::string header, data;
  for (const auto& [name, bytes] :
       {std::pair("model.embed_tokens.weight", embedding), std::pair("lm_head.weight", head)}) {
    if (bytes.empty()) continue;
    header += std::string(header.empty() ? "{\"" : ",\"") + name +
              R"(":{"dtype":"BF16","shape":[2,1],"data_offsets":[)" + std::to_string(data.size()) +
              "," + std::to_string(data.size() + 4) + "]}";
    data += bytes;
  }
  temp.write("config.json", std::string(R"({"model_type":"llama","tie_word_embeddings":)") +
                                (tied ? "true}" : "false}"));
  temp.write("model.safetensors", safetensors(header + "}", data));
  return Checkpoint::open(temp.path());
}

TEST(SafetensorsFolder, ATiedHeadIsWhatTransformersTakesItFor) {
  const TempFolder temp;
  const auto tied = [](const Checkpoint& c) { return *c.config().boolean("tie_word_embeddings"); };
  const auto other = open_ends(temp, "abcd", "abce");
  ASSERT_TRUE(other) << other.error().message;
  EXPECT_FALSE(tied(**other));
  ASSERT_EQ((*other)->notes().size(), 1u);
  EXPECT_NE((*other)->notes()[0].find("lm_head.weight is another matrix"), std::string::npos);
  const auto copy = open_ends(temp, "abcd", "abcd");
  EXPECT_TRUE(tied(**copy));
  EXPECT_TRUE((*copy)->notes().empty());
  const auto head_alone = open_ends(temp, "", "abcd");
  EXPECT_TRUE(tied(**head_alone));
  ASSERT_TRUE((*head_alone)->find("model.embed_tokens.weight"));
  EXPECT_EQ((*head_alone)->find("model.embed_tokens.weight")->file_name, "lm_head.weight");
  EXPECT_FALSE((*head_alone)->find("lm_head.weight"));
  EXPECT_FALSE(tied(**open_ends(temp, "abcd", "abcd", false)));
}

TEST(SafetensorsFolder, EndingIdsOfConfigJson) {
  Folder f;
  const auto ids = [&](const char* value) {
    f.write("config.json", std::string(R"({"model_type":"llama","eos_token_id":)") + value + "}");
    const auto opened = Checkpoint::open(f.temp.path());
    return opened ? (*opened)->tokenizer().config_eos_token_ids : std::vector<int64_t>{-999};
  };
  EXPECT_EQ(ids("7"), (std::vector<int64_t>{7}));
  EXPECT_EQ(ids("[7, 9]"), (std::vector<int64_t>{7, 9}));
  EXPECT_EQ(ids("null"), std::vector<int64_t>{});
  EXPECT_EQ(ids("\"x\""), std::vector<int64_t>{-999});
}

TEST(SafetensorsFolder, GitLfsPointers) {
  constexpr std::string_view kPointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 3087467144\n";
  for (const char* name : {"model-00001-of-00002.safetensors", "config.json", "tokenizer.json",
                           "model.safetensors.index.json"}) {
    Folder f;
    f.write(name, kPointer);
    f.expect("git lfs pull");
    f.expect(name);
  }
  const TempFolder temp;
  const auto opened = Checkpoint::open(temp.write("m.gguf", kPointer));
  EXPECT_NE(opened.error().message.find("a Git LFS pointer"), std::string::npos);
}

TEST(GgufFolder, OneModelIsOpenedAndOfSeveralTheNamesAreListed) {
  const TempFolder temp;
  const std::string file =
      testing::gguf_start(0, 1).text("general.architecture", "x").pad(32).str();
  temp.write("config.json", "{}");  // beside the GGUFs of many repositories
  temp.write("README.md", "hello");
  temp.write("small.gguf", file);
  const auto one = Checkpoint::open(temp.path());
  ASSERT_TRUE(one) << one.error().message;
  EXPECT_EQ((*one)->format(), CheckpointFormat::kGguf);
  EXPECT_EQ((*one)->path(), temp.path() / "small.gguf");
  temp.write("big-00001-of-00002.gguf", file);
  temp.write("big-00002-of-00002.gguf", file);
  const auto two = Checkpoint::open(temp.path());
  ASSERT_FALSE(two);
  EXPECT_NE(
      two.error().message.find(
          R"(holds 2 GGUF models; give one of them: "big-00001-of-00002.gguf", "small.gguf")"),
      std::string::npos)
      << two.error().message;
}

TEST(PublishedName, UndoesWhatTransformersCallsV4sTensors) {
  for (const auto& [saved, published] :
       {std::pair{"lm_head.weight", "head.weight"},
        {"model.embed_tokens.weight", "embed.weight"},
        {"model.norm.weight", "norm.weight"},
        {"model.hc_head.hc_base", "hc_head_base"},
        {"model.layers.3.attn.norm.weight", "layers.3.attn.kv_norm.weight"},
        {"model.layers.3.attn.q_norm.weight", "layers.3.attn.q_norm.weight"},
        {"layers.3.attn_norm.weight", "layers.3.attn_norm.weight"}})
    EXPECT_EQ(published_name("deepseek_v4", saved), published);
  EXPECT_EQ(published_name("deepseek_v3", "model.norm.weight"), "model.norm.weight");
}

}  // namespace
}  // namespace hadal
