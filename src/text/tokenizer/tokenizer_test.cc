// Expected ids and pieces come from the `tokenizers` library 0.23.3, and where a
// tokenizer_config.json is given from transformers 5.24.0, which read the same files.
#include "text/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "text/tokenizer/utf8.h"
#include "text/tokenizer/vocab.h"

namespace hadal {
namespace {

using Json = nlohmann::json;

/// A character model: every letter of the texts below is a token of its own, in this order.
Json file() {
  Json vocab;
  int id = 0;
  for (const char* token : {"a", "b", "c", " ", "x", "ab", "abc", "é", "e", "\u0301", "<s>"})
    vocab[token] = id++;
  return {{"model",
           {{"type", "BPE"},
            {"vocab", vocab},
            {"merges", Json::array({Json::array({"a", "b"}), "ab c"})}}}};
}

Json added(std::string_view content, Json flags = Json::object()) {
  Json token = {{"content", content}, {"special", true}, {"normalized", false}};
  token.update(flags);
  return token;
}

Result<std::unique_ptr<Tokenizer>> create(const Json& json, Json config = nullptr) {
  TokenizerData data;
  data.tokenizer_json = json.dump();
  if (!config.is_null()) data.tokenizer_config_json = config.dump();
  return Tokenizer::create(data, "test");
}

std::vector<TokenId> ids(const Json& json, std::string_view text,
                         Tokenizer::EncodeOptions options = {}) {
  auto tokenizer = create(json);
  if (!tokenizer) {
    ADD_FAILURE() << tokenizer.error().message;
    return {};
  }
  return (*tokenizer)->encode(text, options);
}

std::string refusal(const Json& json, const Json& config = nullptr) {
  const auto tokenizer = create(json, config);
  return tokenizer ? "accepted" : tokenizer.error().message;
}

using Ids = std::vector<TokenId>;

TEST(Tokenizer, MergesByRank) {
  EXPECT_EQ(ids(file(), "abcab"), (Ids{6, 5}));
  EXPECT_EQ(ids(file(), "aabbc"), (Ids{0, 5, 1, 2}));
  EXPECT_EQ(ids(file(), ""), Ids{});
  EXPECT_EQ(ids(file(), "a?b"), (Ids{5}));  // without unk_token the unknown is dropped
}

TEST(Tokenizer, APairThatHasChangedWaitsForItsOwnRank) {
  Json json = file();
  json["model"]["vocab"].update({{"bc", 11}, {"d", 12}, {"bcd", 13}});
  json["model"]["merges"] = {"b c", "a b", "bc d", "a bc"};
  EXPECT_EQ(ids(json, "abcd"), (Ids{0, 13}));
}

TEST(AddedTokens, LeftmostThenLongest) {
  Json json = file();
  json["added_tokens"] = Json::array({added("<|"), added("<|x|>"), added("x|><")});
  EXPECT_EQ(ids(json, "a<|x|><|"), (Ids{0, 12, 11}));
  EXPECT_EQ(ids(json, "x|><|"), (Ids{13}));
  EXPECT_EQ(ids(json, "ab<|x|>", {.added_tokens = false}), (Ids{5, 4}));
}

TEST(AddedTokens, TakeIdsOfTheVocabularyOrTheNextOnes) {
  Json json = file();
  json["model"]["vocab"]["y"] = 40;  // 12 tokens, so the first new id is 12
  json["added_tokens"] = Json::array({added("y"), added("<n>"), added("<s>"), added("<m>")});
  EXPECT_EQ(ids(json, "y<n><s><m>"), (Ids{40, 12, 10, 13}));
}

TEST(AddedTokens, SingleWord) {
  Json json = file();
  json["added_tokens"] = Json::array({added("x", {{"single_word", true}})});
  EXPECT_EQ(ids(json, "ax x xé"), (Ids{0, 4, 3, 4, 3, 4, 7}));  // x is both: its id is 4
  json["added_tokens"] = Json::array({added("[x]", {{"single_word", true}})});
  EXPECT_EQ(ids(json, "[x] a[x]"), (Ids{11, 3, 0, 4}));
  EXPECT_EQ(ids(json, "[x]\u0301"), (Ids{4, 9}));  // a combining mark is a word character
}

TEST(AddedTokens, StripTheirSpaces) {
  Json json = file();
  json["added_tokens"] =
      Json::array({added("[l]", {{"lstrip", true}}), added("[r]", {{"rstrip", true}})});
  EXPECT_EQ(ids(json, "a  [l]  b"), (Ids{0, 11, 3, 3, 1}));
  EXPECT_EQ(ids(json, "a  [r]\u3000 \nb"), (Ids{0, 3, 3, 12, 1}));
  EXPECT_EQ(ids(json, "[r]  [l]"), (Ids{12, 11}));
  json["added_tokens"] = Json::array({added(" ", {{"lstrip", true}, {"rstrip", true}})});
  EXPECT_EQ(ids(json, "a   b"), (Ids{0, 3, 1}));  // the spaces that the first took are gone
}

TEST(AddedTokens, NormalizedOnesAreFoundBehindTheNormalizer) {
  Json json = file();
  json["normalizer"] = {{"type", "NFD"}};
  json["added_tokens"] = Json::array({added("é!", {{"normalized", true}}), added("é?")});
  EXPECT_EQ(ids(json, "e\u0301!"), (Ids{11}));
  EXPECT_EQ(ids(json, "é!"), (Ids{11}));
  EXPECT_EQ(ids(json, "é?"), (Ids{12}));
  EXPECT_EQ(ids(json, "e\u0301?"), (Ids{8, 9}));
}

TEST(AddedTokens, TheLastFlagsOfATokenCount) {
  Json json = file();
  json["normalizer"] = {{"type", "NFD"}};
  json["added_tokens"] = Json::array({added("é!", {{"normalized", true}}), added("é!")});
  EXPECT_EQ(ids(json, "é!"), (Ids{11}));
  EXPECT_EQ(ids(json, "e\u0301!"), (Ids{8, 9}));
}

// The library wants all flags to be there; older files leave some out.
TEST(AddedTokens, SpecialOnesAreNotNormalizedUnlessTheySaySo) {
  Json json = file();
  json["normalizer"] = {{"type", "NFD"}};
  json["added_tokens"] = Json::array({{{"content", "é!"}, {"special", true}}, {{"content", "é?"}}});
  EXPECT_EQ(ids(json, "e\u0301!e\u0301?"), (Ids{8, 9, 12}));
}

TEST(AddedTokens, ThoseOfTheConfigAloneCount) {
  const Json config = {
      {"added_tokens_decoder",
       {{"20", {{"content", "<y>"}, {"special", false}}},
        {"12", {{"content", "<x>"}, {"special", true}}}}},
      {"bos_token", "<b>"},
      {"eos_token", {{"__type", "AddedToken"}, {"content", "<e>"}, {"normalized", true}}},
      {"unk_token", nullptr},
      {"additional_special_tokens", {"<z>", "<s>"}}};
  const auto made = create(file(), config);
  ASSERT_TRUE(made.has_value()) << made.error().message;
  const Tokenizer& t = **made;
  EXPECT_EQ(t.encode("<y>a<x><b><e>b<z><s>"), (Ids{12, 0, 11, 13, 14, 1, 15, 10}));
  EXPECT_EQ(t.token_count(), 16);
  EXPECT_EQ(t.bos(), 13);
  EXPECT_EQ(t.eos(), 14);
  EXPECT_FALSE(t.is_special(12));
  EXPECT_TRUE(t.is_special(10));
}

TEST(AddedTokens, FlagsOfTheConfigCountButNotThoseOfANamedToken) {
  const Json stripping = added("<x>", {{"lstrip", true}});
  Json json = file();
  json["added_tokens"] = Json::array({added("<x>", {{"id", 11}})});
  auto made = create(json, {{"added_tokens_decoder", {{"11", stripping}}}});
  ASSERT_TRUE(made.has_value()) << made.error().message;
  EXPECT_EQ((*made)->encode("a <x> b"), (Ids{0, 11, 3, 1}));
  made = create(json, {{"eos_token", stripping}});
  ASSERT_TRUE(made.has_value()) << made.error().message;
  EXPECT_EQ((*made)->encode("a <x> b"), (Ids{0, 3, 11, 3, 1}));
  EXPECT_EQ((*made)->eos(), 11);
}

TEST(AddedTokens, IdsThatCannotBeAreRefused) {
  const auto given = [](const Json& id) {
    Json json = file();
    json["added_tokens"] = Json::array({added("<x>", {{"id", 11}}), added("<y>", {{"id", id}})});
    return refusal(json);
  };
  EXPECT_EQ(given(12), "accepted");
  EXPECT_NE(given(11).find(R"(added_tokens: "<y>": expected an id of its own; 11 is also that of )"
                           R"("<x>")"),
            std::string::npos)
      << given(11);
  for (const Json& id :
       {Json(-1), Json(1 << 21), Json(int64_t{1} << 40), Json(UINT64_MAX), Json(1.5), Json("12")})
    EXPECT_NE(given(id).find(R"("<y>": expected an id from 0 to 2097151)"), std::string::npos)
        << id << " " << given(id);
  for (const char* id : {"-1", "2097152", "99999999999999999999", "x", "", "1.5"}) {
    const std::string why = refusal(file(), {{"added_tokens_decoder", {{id, added("<y>")}}}});
    EXPECT_NE(why.find(R"(: tokenizer_config.json: added_tokens_decoder: "<y>": expected an id)"),
              std::string::npos)
        << why;
  }
  const auto refused = [](const Json& tokens) {
    return refusal(file(), {{"added_tokens_decoder", tokens}});
  };
  EXPECT_NE(refused({{"7", added("<x>")}, {"07", added("<y>")}}).find("an id of its own"),
            std::string::npos);
  EXPECT_NE(refused({{"7", "<x>"}}).find("added_tokens_decoder.content: expected a string"),
            std::string::npos);
  EXPECT_NE(refused({"<x>"}).find("expected an object of ids and tokens"), std::string::npos);
}

/// The ids of `text` behind a step; tokens that a split parts show where it parted.
Ids split(const Json& step, std::string_view text = "ab12  c") {
  Json json = file();
  Json vocab = json["model"]["vocab"];
  vocab["1"] = 20, vocab["2"] = 21, vocab["12"] = 22, vocab["  "] = 23, vocab["2 "] = 24;
  vocab["b1"] = 25;
  json["model"]["vocab"] = vocab;
  json["model"]["merges"] = {"a b", "1 2", Json::array({" ", " "}), Json::array({"2", " "}), "b 1"};
  json["pre_tokenizer"] = step;
  return ids(json, text);
}

Json digits(std::string_view behavior, bool invert = false) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", "[12]"}}},
          {"behavior", behavior},
          {"invert", invert}};
}

TEST(PreTokenizer, Behaviours) {
  EXPECT_EQ(split(nullptr), (Ids{5, 22, 23, 2}));
  EXPECT_EQ(split(digits("Removed")), (Ids{5, 23, 2}));
  EXPECT_EQ(split(digits("Isolated")), (Ids{5, 20, 21, 23, 2}));
  EXPECT_EQ(split(digits("Contiguous")), (Ids{5, 22, 23, 2}));
  EXPECT_EQ(split(digits("MergedWithPrevious")), (Ids{5, 20, 21, 23, 2}));
  EXPECT_EQ(split(digits("MergedWithPrevious"), "b12"), (Ids{25, 21}));
  EXPECT_EQ(split(digits("MergedWithNext"), "b12 "), (Ids{1, 20, 24}));
  EXPECT_EQ(split(digits("Removed", true)), (Ids{20, 21}));
  EXPECT_EQ(split(digits("MergedWithNext", true), "12 1"), (Ids{20, 21, 3, 20}));
}

TEST(PreTokenizer, Kinds) {
  EXPECT_EQ(split({{"type", "Digits"}}), (Ids{5, 22, 23, 2}));
  EXPECT_EQ(split({{"type", "Digits"}, {"individual_digits", true}}), (Ids{5, 20, 21, 23, 2}));
  EXPECT_EQ(split({{"type", "Whitespace"}}), (Ids{5, 22, 2}));
  EXPECT_EQ(split({{"type", "WhitespaceSplit"}}), (Ids{5, 22, 2}));
  EXPECT_EQ(split({{"type", "CharDelimiterSplit"}, {"delimiter", "1"}}), (Ids{5, 21, 23, 2}));
  EXPECT_EQ(split({{"type", "Punctuation"}}, "ab.ab"), (Ids{5, 5}));
  EXPECT_EQ(split({{"type", "Split"}, {"pattern", {{"String", "b1"}}}, {"behavior", "Isolated"}}),
            (Ids{0, 25, 21, 23, 2}));
  EXPECT_EQ(split({{"type", "Sequence"},
                   {"pretokenizers", {{{"type", "WhitespaceSplit"}}, digits("Isolated")}}}),
            (Ids{5, 20, 21, 2}));
}

/// Byte-level: the vocabulary is the byte alphabet, ids are the bytes.
Json byte_file() {
  Json vocab;
  char32_t next = 256;
  for (int b = 0; b < 256; ++b) {
    const bool visible = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    std::string text;
    utf8_append(text, visible ? static_cast<char32_t>(b) : next++);
    vocab[text] = b;
  }
  return {{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}}};
}

TEST(ByteLevel, SpellsBytes) {
  Json json = byte_file();
  EXPECT_EQ(ids(json, "é\n"), (Ids{0xC3, 0xA9, 10}));
  json["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_EQ(ids(json, "a"), (Ids{32, 97}));
  EXPECT_EQ(ids(json, " a"), (Ids{32, 97}));
  EXPECT_EQ(ids(json, "\xFFz"), (Ids{32, 0xEF, 0xBF, 0xBD, 'z'}));  // repaired to U+FFFD
}

TEST(ByteLevel, SplitsWithGpt2sPattern) {
  Json json = byte_file();
  json["model"]["vocab"]["ab"] = 256;
  json["model"]["vocab"]["a'"] = 257;
  json["model"]["vocab"]["b1"] = 258;
  json["model"]["merges"] = {"a '", "b 1", "a b"};
  EXPECT_EQ(ids(json, "ab1a's"), (Ids{256, '1', 'a', '\'', 's'}));
  json["pre_tokenizer"]["use_regex"] = false;
  EXPECT_EQ(ids(json, "ab1a's"), (Ids{'a', 258, 257, 's'}));
}

Ids normal(const Json& normalizer, std::string_view text) {
  Json json = byte_file();
  json["normalizer"] = normalizer;
  return ids(json, text);
}

Ids bytes(std::string_view text) {
  Ids out;
  for (const char c : text) out.push_back(static_cast<unsigned char>(c));
  return out;
}

TEST(Normalizer, Kinds) {
  EXPECT_EQ(normal({{"type", "NFC"}}, "e\u0301ﬁ"), bytes("éﬁ"));
  EXPECT_EQ(normal({{"type", "NFD"}}, "éﬁ"), bytes("e\u0301ﬁ"));
  EXPECT_EQ(normal({{"type", "NFKC"}}, "e\u0301ﬁ"), bytes("éfi"));
  EXPECT_EQ(normal({{"type", "NFKD"}}, "éﬁ"), bytes("e\u0301fi"));
  EXPECT_EQ(normal({{"type", "Prepend"}, {"prepend", "xy"}}, "a"), bytes("xya"));
  EXPECT_EQ(normal({{"type", "Replace"}, {"pattern", {{"String", "."}}}, {"content", ""}}, "a.b."),
            bytes("ab"));
  EXPECT_EQ(
      normal({{"type", "Replace"}, {"pattern", {{"Regex", "[ab]+"}}}, {"content", "_"}}, "abcb"),
      bytes("_c_"));
  const std::string spaced = " \u3000a ";
  EXPECT_EQ(normal({{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}}, spaced),
            bytes("a "));
  EXPECT_EQ(normal({{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}}, spaced),
            bytes(" \u3000a"));
  EXPECT_EQ(
      normal({{"type", "Sequence"},
              {"normalizers",
               {{{"type", "NFD"}},
                {{"type", "Replace"}, {"pattern", {{"String", "\u0301"}}}, {"content", ""}}}}},
             "é"),
      bytes("e"));
}

TEST(Normalizer, IsThatOfUnicode9) {
  const Json nfc = {{"type", "NFC"}};
  EXPECT_EQ(normal(nfc, "\u1110\u1175\u11A7"), bytes("\uD2F0\u11A7"));  // utf8proc loses the last
  EXPECT_EQ(normal(nfc, "a\u0323\u0307\u0323"), bytes("ạ\u0323\u0307"));
  EXPECT_EQ(normal(nfc, "\u212A\u2126"), bytes("KΩ"));
  EXPECT_EQ(normal(nfc, "x\u0301\u0300"), bytes("x\u0301\u0300"));  // of one class: as they stand
  EXPECT_EQ(normal({{"type", "NFKD"}}, "\U00010781"), bytes("\U00010781"));  // of Unicode 14
  EXPECT_EQ(normal(nfc, "a\u1DFA\u0334"), bytes("a\u1DFA\u0334"));           // of Unicode 14
}

TEST(Model, IgnoreMerges) {
  Json json = file();
  json["model"]["vocab"]["cab"] = 11;
  EXPECT_EQ(ids(json, "cab"), (Ids{2, 5}));
  json["model"]["ignore_merges"] = true;
  EXPECT_EQ(ids(json, "cab"), (Ids{11}));
  EXPECT_EQ(ids(json, "cabc"), (Ids{2, 6}));
}

TEST(Model, IgnoreMergesMakesNoSpecialTokenOfPlainText) {
  Json json = file();
  json["model"]["ignore_merges"] = true;
  for (const char* c : {"<", "s", ">"}) json["model"]["vocab"][c] = json["model"]["vocab"].size();
  json["added_tokens"] = Json::array({added("<s>")});
  EXPECT_EQ(ids(json, "<s>"), (Ids{10}));
  EXPECT_EQ(ids(json, "<s>", {.added_tokens = false}), (Ids{11, 12, 13}));
}

TEST(Model, Unknown) {
  Json json = file();
  json["model"]["unk_token"] = "x";
  EXPECT_EQ(ids(json, "a??b"), (Ids{0, 4, 4, 1}));
  json["model"]["fuse_unk"] = true;
  EXPECT_EQ(ids(json, "a??b?"), (Ids{0, 4, 1, 4}));
}

TEST(Model, ByteFallback) {
  Json json = file();
  json["model"]["byte_fallback"] = true;
  json["model"]["vocab"]["<0xC3>"] = 11;
  json["model"]["vocab"]["<0xA8>"] = 12;
  json["model"]["vocab"]["<0x7f>"] = 13;              // lower case is no such token
  EXPECT_EQ(ids(json, "éèê\x7f"), (Ids{7, 11, 12}));  // ê lacks a byte and is dropped whole
  json["decoder"] = {{"type", "ByteFallback"}};
  const auto tokenizer = create(json);
  ASSERT_TRUE(tokenizer.has_value());
  EXPECT_EQ((*tokenizer)->decode(Ids{11, 12, 13}), "è<0x7f>");
}

TEST(Model, PrefixAndSuffix) {
  Json json = {{"model",
                {{"type", "BPE"},
                 {"vocab", {{"a", 0}, {"##b", 1}, {"##b.", 2}, {"ab", 3}, {"a.", 4}, {"##a", 5}}},
                 {"merges", Json::array({"a ##b"})},
                 {"continuing_subword_prefix", "##"},
                 {"end_of_word_suffix", "."}}}};
  EXPECT_EQ(ids(json, "abab"), (Ids{3, 5, 2}));
  EXPECT_EQ(ids(json, "a"), (Ids{4}));
}

TEST(Tokenizer, DecodesAndNamesTokens) {
  Json json = byte_file();
  json["added_tokens"] = Json::array({added("<é>"), added("[n]", {{"special", false}})});
  const auto made = create(json, {{"bos_token", "<é>"}, {"eos_token", {{"content", "[n]"}}}});
  ASSERT_TRUE(made.has_value()) << made.error().message;
  const Tokenizer& t = **made;
  EXPECT_EQ(t.decode(Ids{'a', 256, 0xC3, 257, -1, 999}), "a<é>\xC3[n]");
  EXPECT_EQ(t.decode(Ids{'a', 256, 257}, true), "a[n]");
  EXPECT_EQ(t.token_bytes(0xC3), "\xC3");
  EXPECT_EQ(t.id_of("<é>"), 256);
  EXPECT_EQ(t.id_of("Ã"), 0xC3);
  EXPECT_EQ(t.id_of("nothing"), std::nullopt);
  EXPECT_TRUE(t.is_special(256));
  EXPECT_FALSE(t.is_special(257));
  EXPECT_EQ(t.vocab_size(), 258);
  EXPECT_EQ(t.bos(), 256);
  EXPECT_EQ(t.ending(), (Ids{257}));
  EXPECT_EQ(t.encode("a", {.bos = true}), (Ids{256, 'a'}));
}

TEST(Tokenizer, BosIsPutInFrontOnce) {
  Json json = byte_file();
  json["added_tokens"] = Json::array({added("<s>")});
  const auto made = create(json, {{"bos_token", "<s>"}, {"add_bos_token", true}});
  ASSERT_TRUE(made.has_value()) << made.error().message;
  const Tokenizer& t = **made;
  EXPECT_EQ(t.encode("a", {.bos = true}), (Ids{256, 'a'}));
  EXPECT_EQ(t.encode("<s>a", {.bos = true}), (Ids{256, 'a'}));
  EXPECT_EQ(t.encode("<s><s>a", {.bos = true}), (Ids{256, 256, 'a'}));
  EXPECT_EQ(t.encode("a<s>", {.bos = true}), (Ids{256, 'a', 256}));
  EXPECT_EQ(t.encode("", {.bos = true}), Ids{256});
  EXPECT_EQ(t.encode("<s>", {.added_tokens = false, .bos = true}), (Ids{256, '<', 's', '>'}));
}

TEST(Tokenizer, EndingsComeFromEveryFile) {
  TokenizerData data;
  Json json = byte_file();
  for (const char* token : {"<e>", "<|fim_pad|>", "<|file_sep|>", "<|repo_name|>"})
    json["added_tokens"].push_back(added(token, {{"special", false}}));
  json["model"]["vocab"]["<|im_end|>"] = 256;
  data.tokenizer_json = json.dump();
  data.tokenizer_config_json = R"({"eos_token": "<e>"})";
  data.config_eos_token_ids = {5, 400, -1};
  data.generation_config_json = R"({"eos_token_id": [6, 5, 300]})";
  const auto made = Tokenizer::create(data, "test");
  ASSERT_TRUE(made.has_value()) << made.error().message;
  EXPECT_EQ((*made)->ending(), (Ids{257, 5, 6, 256, 258, 259, 260}));
  EXPECT_EQ((*made)->notes(),
            (std::vector<std::string>{
                "config.json: eos_token_id 400 is ignored: the vocabulary has 261 tokens",
                "generation_config.json: eos_token_id 300 is ignored: the vocabulary has 261 "
                "tokens"}));
  // Endings are left out like special tokens, whatever they are in the file.
  for (const TokenId id : (*made)->ending()) {
    EXPECT_EQ(StreamDecoder(**made).push(id), "") << id;
    EXPECT_EQ(StreamDecoder(**made, false).push(id), (*made)->token_bytes(id)) << id;
  }
}

TEST(StreamDecoder, NeverEndsInsideACharacter) {
  const auto tokenizer = create(byte_file());
  ASSERT_TRUE(tokenizer.has_value());
  const std::string text = "aé你🙂\xE4\xBDz\xF0\x9F\xFF\xED\xA0\x80\xC3";
  StreamDecoder stream(**tokenizer);
  std::string all;
  std::vector<std::string> parts;
  for (const TokenId id : bytes(text)) {
    parts.push_back(stream.push(id));
    EXPECT_TRUE(utf8_valid(parts.back()));
    all += parts.back();
  }
  EXPECT_EQ(parts[0], "a");
  EXPECT_EQ(parts[1], "");
  EXPECT_EQ(parts[2], "é");
  EXPECT_EQ(parts[9], "🙂");
  EXPECT_EQ(parts[12], "\uFFFDz");  // the half of a character is one U+FFFD once it is certain
  all += stream.finish();
  // As Python decodes these bytes with errors="replace".
  EXPECT_EQ(all, "aé你🙂\uFFFDz\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(stream.finish(), "");
}

TEST(StreamDecoder, SkipsSpecialTokensUnlessAsked) {
  Json json = byte_file();
  json["added_tokens"] = Json::array({added("<s>")});
  const auto tokenizer = create(json);
  ASSERT_TRUE(tokenizer.has_value());
  EXPECT_EQ(StreamDecoder(**tokenizer).push(256), "");
  EXPECT_EQ(StreamDecoder(**tokenizer, false).push(256), "<s>");
}

TEST(Refusals, NameWhatIsWrong) {
  const auto with = [](const char* pointer, Json value) {
    Json json = file();
    json[Json::json_pointer(pointer)] = std::move(value);
    return refusal(json);
  };
  const auto has = [](const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos ? std::string(part) : text;
  };
  const std::pair<std::string, const char*> cases[] = {
      {with("/model/type", "Unigram"),
       "the model \"Unigram\" is not supported; the one known is BPE"},
      {with("/model", 1), "model: expected an object"},
      {with("/model/vocab", Json::array()), "model.vocab: expected an object"},
      {with("/model/vocab/a", "0"), "model.vocab: \"a\": expected an id"},
      {with("/model/vocab/a", 1), "id 1 is given to both"},
      {with("/model/vocab/a", -1), "has id -1; expected an id from 0 to"},
      {with("/model/vocab/a", uint64_t{1} << 63), "expected an id from 0 to"},
      {with("/model/merges", 3), "model.merges: expected a list"},
      {with("/model/merges/0", "a b c"), "model.merges[0]: expected two tokens"},
      {with("/model/merges/1", "ab"), "model.merges[1]: expected two tokens"},
      {with("/model/merges/0", "a q"), "\"q\" is not in the vocabulary"},
      {with("/model/merges/0", "a c"), "\"ac\" is not in the vocabulary"},
      {with("/model/merges/0", {{"a", 1}}), "model.merges[0]: expected a string or a list"},
      {with("/model/dropout", 0.1), "dropout is not supported"},
      {with("/model/unk_token", "?"), "unk_token \"?\" is not in the vocabulary"},
      {with("/model/fuse_unk", 1), "model.fuse_unk: expected true or false"},
      {with("/added_tokens", 1), "added_tokens: expected a list"},
      {with("/added_tokens", Json::array({1})), "added_tokens.content: expected a string"},
      {with("/added_tokens", Json::array({added(std::string(257, 'a'))})),
       "is longer than 256 bytes"},
      {with("/added_tokens", Json::array({added("a", {{"special", 1}})})),
       "added_tokens.special: expected true"},
      {with("/normalizer", {{"type", "Lowercase"}}),
       "the normalizer \"Lowercase\" is not supported"},
      {with("/normalizer", "NFC"), "normalizer: expected an object"},
      {with("/normalizer", {{"type", "Sequence"}}), "normalizer.normalizers: expected a list"},
      {with("/normalizer", {{"type", "Replace"}, {"content", "a"}}),
       "normalizer.pattern: expected"},
      {with("/pre_tokenizer", {{"type", "Metaspace"}}),
       "the pre-tokenizer \"Metaspace\" is not supported; known are Split, ByteLevel"},
      {with("/pre_tokenizer", digits("removed")), "pre_tokenizer.behavior: expected Removed,"},
      {with("/pre_tokenizer",
            {{"type", "Split"}, {"behavior", "Removed"}, {"pattern", {{"Regex", "("}}}}),
       "the pattern \"(\" is not supported"},
      {with("/pre_tokenizer",
            {{"type", "Sequence"}, {"pretokenizers", Json(65, {{"type", "WhitespaceSplit"}})}}),
       "the pre-tokenizer has more than 64 steps"},
      {with("/decoder", {{"type", "CTC"}}), "the decoder \"CTC\" is not supported"},
  };
  for (const auto& [found, expected] : cases) EXPECT_EQ(has(found, expected), expected);
}

TEST(Refusals, TextThatIsNoTokenizer) {
  const auto refused = [](std::string text) {
    TokenizerData data;
    data.tokenizer_json = std::move(text);
    const auto made = Tokenizer::create(data, "test");
    return made ? "accepted" : made.error().message;
  };
  EXPECT_NE(refused("{").find("no JSON object"), std::string::npos);
  EXPECT_NE(refused("[]").find("no JSON object"), std::string::npos);
  EXPECT_NE(refused("{}").find("model: expected an object"), std::string::npos);
  EXPECT_NE(refused(std::string(100000, '[')).find("tokenizer.json"), std::string::npos);
  EXPECT_NE(refused("").find("has no tokenizer"), std::string::npos);
  EXPECT_EQ(refused("{").substr(0, 16), "test: tokenizer:");
}

TEST(Refusals, GgufNamesThePreTokenizersItKnows) {
  TokenizerData data;
  data.gguf_model = "gpt2";
  data.gguf_pre = "nobody";
  data.tokens = {"a", "b", "ab"};
  data.merges = {"a b"};
  const auto refused = [&] {
    const auto made = Tokenizer::create(data, "test");
    return made ? "accepted" : made.error().message;
  };
  EXPECT_NE(refused().find("tokenizer.ggml.pre is \"nobody\"; known are llama-bpe, qwen2, "),
            std::string::npos);
  data.gguf_pre = "";
  EXPECT_NE(refused().find("tokenizer.ggml.pre is missing"), std::string::npos);
  data.gguf_pre = "gpt-2";
  EXPECT_EQ(refused(), "accepted");
  data.bos_token_id = 3;
  EXPECT_NE(refused().find("bos_token_id is 3; the vocabulary has 3 tokens"), std::string::npos);
  data.bos_token_id.reset();
  data.merges = {"ab"};
  EXPECT_NE(refused().find("tokenizer.ggml.merges[0]"), std::string::npos);
  data.merges.clear();
  EXPECT_NE(refused().find("merges is missing"), std::string::npos);
  data.token_types = {1};
  data.merges = {"a b"};
  EXPECT_NE(refused().find("1 entries for 3 tokens"), std::string::npos);
  data.gguf_model = "llama";
  EXPECT_NE(refused().find("tokenizer.ggml.model \"llama\" is not supported"), std::string::npos);
}

TEST(Gguf, MarkersCountWhateverTheirType) {
  TokenizerData data;
  data.gguf_model = "gpt2";
  data.gguf_pre = "qwen2";
  for (int byte = 0; byte < 256; ++byte)
    data.tokens.emplace_back(ByteAlphabet::get().character(static_cast<unsigned char>(byte)));
  data.tokens.insert(data.tokens.end(),
                     {"HI", "<|im_start|>", "<|im_end|>", "<｜User｜>", "<think>"});
  data.merges = {"H I"};
  data.eos_token_id = 258;
  for (const bool typed : {false, true}) {
    if (typed) data.token_types.assign(data.tokens.size(), 1);
    const auto made = Tokenizer::create(data, "test");
    ASSERT_TRUE(made.has_value()) << made.error().message;
    const Tokenizer& t = **made;
    EXPECT_EQ(t.encode("<|im_start|>HI<｜User｜><think>"), (Ids{257, 256, 259, 260}));
    EXPECT_EQ(t.encode("<|im_end|>", {.added_tokens = false}), bytes("<|im_end|>"));
    EXPECT_EQ(t.ending(), Ids{258});
    EXPECT_EQ(StreamDecoder(t).push(258), "");
    ASSERT_EQ(t.notes().size(), 1U);
    EXPECT_NE(t.notes()[0].find("4 markers"), std::string::npos) << t.notes()[0];
  }
  data.token_types[258] = 4;
  EXPECT_EQ(StreamDecoder(**Tokenizer::create(data, "test")).push(258), "");
}

TEST(Hostile, WorkIsBounded) {
  const std::string text(200000, 'a');
  Json json = file();
  json["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "a+b|a"}}}, {"behavior", "Isolated"}};
  EXPECT_THROW(ids(json, text), std::runtime_error);
  json = file();
  json["normalizer"] = {
      {"type", "Sequence"},
      {"normalizers",
       Json(40, {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}})}};
  EXPECT_THROW(ids(json, text), std::runtime_error);
  json = byte_file();
  json["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers", Json(40, {{"type", "ByteLevel"}})}};
  EXPECT_THROW(ids(json, "é" + text), std::runtime_error);
  json = file();
  json["added_tokens"] = Json::array({added(" ", {{"rstrip", true}})});
  EXPECT_EQ(ids(json, std::string(200000, ' ')).size(), 200000u);
}

}  // namespace
}  // namespace hadal
