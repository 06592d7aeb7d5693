// Expected keys and ids come from the `tokenizers` library 0.23.3 with the official pipeline;
// tools/oracle/check_compressed_ids.py makes the same comparison on whole vocabularies.
#include "text/tokenizer/compressed_ids.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace hadal {
namespace {

using Json = nlohmann::json;

std::unique_ptr<Tokenizer> tokenizer(const Json& vocab, const Json& added, const Json& decoder) {
  TokenizerData data;
  data.tokenizer_json = Json{
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}},
      {"added_tokens", added},
      {"decoder", decoder}}.dump();
  auto made = Tokenizer::create(data, "test");
  if (!made) {
    ADD_FAILURE() << made.error().message;
    return nullptr;
  }
  return *std::move(made);
}

Json added(std::initializer_list<const char*> contents) {
  Json list = Json::array();
  for (const char* content : contents) list.push_back({{"content", content}, {"special", true}});
  return list;
}

TEST(CompressionKey, DropsCaseAccentsAndKindsOfBlanks) {
  EXPECT_EQ(compression_key("  \u00C4pfel\t\r\n B\u00E9"), "apfel be");
  EXPECT_EQ(compression_key("\uFF21\uFB03\u2460"), "affi1");            // compatibility forms
  EXPECT_EQ(compression_key("\u0130I\u1E9E\u03A3"), "ii\u00DF\u03C3");  // no final sigma
  EXPECT_EQ(compression_key("\uAC01"), "\u1100\u1161\u11A8");
  EXPECT_EQ(compression_key("e\u0301\u20DD\u0903"), "e");  // Mn, Me, Mc
  EXPECT_EQ(compression_key("\u0301"), "");
  EXPECT_EQ(compression_key(""), "");
}

TEST(CompressionKey, OneBlankStaysAndOthersAreStripped) {
  for (const char* blank : {" ", "\n\n", " \t\r\n", "\u3000", "\u00A0\n", "\u2003"})
    EXPECT_EQ(compression_key(blank), " ");
  for (const char* space : {"\v", "\u0085", "\u2028 \u2028", " \f"})
    EXPECT_EQ(compression_key(space), "") << space;
  EXPECT_EQ(compression_key("\n \f\n"), "");
  EXPECT_EQ(compression_key(" \x1C"), "\x1C");  // Python strips it, Rust does not
  EXPECT_EQ(compression_key("\u200B"), "\u200B");
  EXPECT_EQ(compression_key("\uE000"), " ");
  EXPECT_EQ(compression_key(" a\uE000b \uE000"), "a b  ");
}

TEST(CompressionKey, HasTheUnicodeOfTheLibrary) {
  EXPECT_EQ(compression_key("a\u08D4"), "a");              // a mark of Unicode 9
  EXPECT_EQ(compression_key("a\u08D3"), "a\u08D3");        // of Unicode 11
  EXPECT_EQ(compression_key("\uA7CB"), "\u0264");          // cased since Unicode 16
  EXPECT_EQ(compression_key("\U00016EA0"), "\U00016EBB");  // since Unicode 17
}

TEST(CompressedIds, AreNumberedInOrderOfFirstSight) {
  const Json vocab = {
      {"b", 0},      {"\u0120a", 1},      {"A", 2}, {"\u0120", 3},       {"\u010A", 4},
      {"\u00C3", 5}, {"\u00C3\u0143", 6}, {"i", 7}, {"\u00CC\u0123", 8}, {"\u00CC\u0122", 9}};
  // Two accents alone have no key, so each is itself; half a character counts as it is spelled.
  const auto made =
      tokenizer(vocab, added({"<S>", "<s>", "B", "\u00E9", "\u00C3\u00AD", "\uFF5Cx"}),
                {{"type", "ByteLevel"}});
  ASSERT_NE(made, nullptr);
  const CompressedIds ids = compressed_ids(*made);
  EXPECT_EQ(ids.by_id, (std::vector<int32_t>{0, 1, 1, 2, 2, 3, 4, 4, 5, 6, 7, 7, 0, 8, 9, 10}));
  EXPECT_EQ(ids.count, 11);
}

TEST(CompressedIds, AMissingIdIsTheEmptyText) {
  // Six tokens, so ids 0 to 5: 2, 3 and 5 are missing, the last three tokens have no number.
  const Json vocab = {{"a", 0}, {"\u0301", 1}, {"b", 4}, {"B", 7}, {"c", 8}};
  const auto made = tokenizer(vocab, added({"A"}), nullptr);
  ASSERT_NE(made, nullptr);
  const CompressedIds ids = compressed_ids(*made);
  EXPECT_EQ(made->token_count(), 6);
  EXPECT_EQ(ids.by_id, (std::vector<int32_t>{0, 1, 2, 2, 3, 0}));
  EXPECT_EQ(ids.count, 4);
}

}  // namespace
}  // namespace hadal
