#include "server/batch_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace hadal::server {
namespace {

class BatchFiles : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              ("hadal-batch-" + std::to_string(::getpid()) + "-" +
               testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  static std::string read(const std::filesystem::path& path) {
    std::stringstream all;
    all << std::ifstream(path, std::ios::binary).rdbuf();
    return all.str();
  }
  std::vector<BatchItem> items(const std::string& text) const {
    std::vector<BatchItem> all;
    auto reader = BatchReader::open(write("in.jsonl", text));
    EXPECT_TRUE(reader);
    while (reader) {
      auto item = reader->next();
      EXPECT_TRUE(item);
      if (!item || !*item) break;
      all.push_back(**std::move(item));
    }
    return all;
  }
  std::filesystem::path folder_;
};

std::string chat_line(const std::string& id, const std::string& more = "") {
  return R"({"custom_id":")" + id +
         R"(","method":"POST","url":"/v1/chat/completions","body":{"messages":[{"role":"user","content":"hi"}])" +
         more + "}}\n";
}
std::string fault_of(const BatchItem& item) {
  const auto* fault = std::get_if<BatchFault>(&item.request);
  return fault ? fault->code + " " + fault->message : "none";
}

TEST_F(BatchFiles, ReadsRequestsOfBothApis) {
  const auto all =
      items("\xEF\xBB\xBF" + chat_line("a") + "\r\n  \n" +
            R"({"custom_id":"b","method":"POST","url":"/v1/completions","body":{"prompt":"x"}})");
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].line, 1);
  EXPECT_EQ(all[0].custom_id, "a");
  ASSERT_TRUE(std::holds_alternative<ChatCall>(all[0].request));
  EXPECT_EQ(std::get<ChatCall>(all[0].request).chat.messages[0].content, "hi");
  EXPECT_EQ(all[1].line, 4);
  ASSERT_TRUE(std::holds_alternative<CompletionCall>(all[1].request));
  EXPECT_TRUE(items("").empty());
  EXPECT_TRUE(items("\n\n").empty());
}

TEST_F(BatchFiles, LinesThatAreNoRequestsAreFaultsAndTheRestGoesOn) {
  const auto line = [](const std::string& custom_id, const std::string& method,
                       const std::string& url, const std::string& body) {
    return "{" + custom_id + R"("method":")" + method + R"(","url":")" + url + "\"" + body + "}\n";
  };
  const std::string body = R"(,"body":{"prompt":"x"})", url = "/v1/completions";
  const std::string id = R"("custom_id":)";
  const auto all = items(
      "{\n[]\n" + line("", "POST", url, body) + line(id + "5,", "POST", url, body) +
      line(id + "\"\",", "POST", url, body) + line(id + "\"g\",", "GET", url, body) +
      line(id + "\"u\",", "POST", "/v1/embeddings", body) + line(id + "\"n\",", "POST", url, "") +
      line(id + "\"l\",", "POST", url, R"(,"body":[])") + "{\"custom_id\":\"m\"}\n" +
      chat_line("a") + chat_line("a") + std::string(100000, '[') + "\n\xff\n" + chat_line("b"));
  const std::vector<std::string> expected = {
      "invalid_line line 1: request: no valid JSON",
      "invalid_line line 2: request: an object is expected, array was found",
      "invalid_line line 3: custom_id: is missing",
      "invalid_line line 4: custom_id: a text is expected, number was found",
      "invalid_line line 5: custom_id: 0 bytes were found, 1 to 512 bytes are expected",
      "invalid_method line 6: method: \"POST\" is expected, \"GET\" was found",
      "invalid_url line 7: url: \"/v1/chat/completions\" or \"/v1/completions\" is expected, "
      "\"/v1/embeddings\" was found",
      "invalid_line line 8: body: is missing",
      "invalid_line line 9: body: an object is expected, array was found",
      "invalid_line line 10: method: is missing",
      "none",
      "duplicate_custom_id line 12: custom_id: \"a\" came before",
      "invalid_line line 13: [0][0]",
      "invalid_line line 14: request: no valid JSON",
      "none"};
  ASSERT_EQ(all.size(), expected.size());
  for (size_t i = 0; i < all.size(); ++i)
    EXPECT_EQ(fault_of(all[i]).substr(0, expected[i].size()), expected[i]);
  EXPECT_EQ(all[5].custom_id, "g");
  EXPECT_EQ(
      batch_refusal_line(all[5], "r"),
      R"({"id":"batch_req_6","custom_id":"g","response":null,"error":{"code":"invalid_method",)"
      R"("message":"line 6: method: \"POST\" is expected, \"GET\" was found"}})"
      "\n");
  EXPECT_EQ(batch_refusal_line(all[0], "r")
                .find(R"({"id":"batch_req_1","custom_id":null,"response":null,"error":{)"),
            0U);
}

TEST_F(BatchFiles, BodiesThatAreRefusedHaveTheApisOwnError) {
  const auto all = items(chat_line("a", R"(,"n":0)") + chat_line("s", R"(,"stream":true)"));
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(
      batch_refusal_line(all[0], "req_1"),
      R"({"id":"batch_req_1","custom_id":"a","response":{"status_code":400,"request_id":"req_1",)"
      R"("body":{"error":{"message":"n: 0 was found, a whole number from 1 to 128 is expected",)"
      R"("type":"invalid_request_error","param":"n","code":"invalid_request_error"}}},"error":null})"
      "\n");
  ASSERT_TRUE(std::holds_alternative<ApiError>(all[1].request));
  EXPECT_EQ(std::get<ApiError>(all[1].request).param, "stream");
}

TEST_F(BatchFiles, LimitsOfALine) {
  const auto most = static_cast<size_t>(limit("custom_id").most);
  auto all = items(chat_line(std::string(most, 'i')) + chat_line(std::string(most + 1, 'i')));
  EXPECT_EQ(fault_of(all[0]), "none");
  EXPECT_EQ(fault_of(all[1]).find("invalid_line line 2: custom_id: 513 bytes"), 0U);
  all = items(std::string(static_cast<size_t>(limit("body").most) + 5000, ' ') + "{}\n" +
              chat_line("x"));
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(fault_of(all[0]).find("line_too_long line 1: 33559434 bytes were found"), 0U);
  EXPECT_EQ(fault_of(all[1]), "none");
  // A long prompt of ids has room in a line as it has in a body.
  std::string ids = "1";
  for (int64_t i = 1; i < limit("prompt[]").most; ++i) ids += ",1";
  all = items(R"({"custom_id":"p","method":"POST","url":"/v1/completions","body":{"prompt":[)" +
              ids + "]}}\n");
  EXPECT_EQ(fault_of(all[0]), "none");
  const std::string deep(62, '['), ends(62, ']');
  all = items(chat_line("d", ",\"x\":[" + deep + ends + "]") +
              chat_line("e", ",\"x\":[[" + deep + ends + "]]"));
  EXPECT_EQ(fault_of(all[0]), "none");
  EXPECT_NE(fault_of(all[1]).find("deeper than 64"), std::string::npos);
}

TEST_F(BatchFiles, ResultsAreAppendedAndReadBack) {
  const auto path = folder_ / "out.jsonl";
  const auto none = read_batch_results(path);
  ASSERT_TRUE(none);
  {
    auto writer = BatchWriter::open(path, *none);
    ASSERT_TRUE(writer) << writer.error().message;
    EXPECT_TRUE(writer->write(batch_response_line(2, "b\"\n", 200, "r", R"({"x":[{"id":"no"}]})")));
    EXPECT_TRUE(writer->write(batch_error_line(1, "b\"\n", "duplicate_custom_id", "m")));
    EXPECT_TRUE(writer->finish());
  }
  const auto done = read_batch_results(path);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->custom_ids, std::unordered_set<std::string>{"b\"\n"});
  EXPECT_EQ(done->faulty_lines, std::unordered_set<int64_t>{1});
  EXPECT_EQ(done->note, "");
  EXPECT_EQ(done->whole_bytes, static_cast<int64_t>(read(path).size()));
  EXPECT_TRUE(done->has({.line = 9, .custom_id = "b\"\n", .request = ChatCall{}}));
  EXPECT_FALSE(done->has({.line = 1, .custom_id = "c", .request = ChatCall{}}));
  EXPECT_TRUE(done->has({.line = 1, .custom_id = "b\"\n", .request = BatchFault{}}));
  EXPECT_FALSE(done->has({.line = 3, .custom_id = "b\"\n", .request = BatchFault{}}));
  auto writer = BatchWriter::open(path, *done);
  ASSERT_TRUE(writer) << writer.error().message;
  EXPECT_TRUE(writer->write(batch_response_line(3, "c", 400, "r", "{}")));
  EXPECT_EQ(read_batch_results(path)->custom_ids.size(), 2U);
}

TEST_F(BatchFiles, ARunThatWasCutOffAnywhereGoesOn) {
  const std::string first = batch_response_line(1, "a", 200, "r", "{}"),
                    second = batch_response_line(2, "b", 200, "r", R"({"y":"ä"})");
  for (size_t cut = 0; cut <= second.size(); ++cut) {
    const auto path = write("out.jsonl", first + second.substr(0, cut));
    const auto done = read_batch_results(path);
    ASSERT_TRUE(done) << done.error().message;
    const bool whole = cut == second.size();
    EXPECT_EQ(done->custom_ids.contains("b"), whole);
    EXPECT_EQ(done->note.empty(), whole || cut == 0);
    auto writer = BatchWriter::open(path, *done);
    ASSERT_TRUE(writer) << writer.error().message;
    ASSERT_TRUE(writer->write(second));
    EXPECT_EQ(read(path), first + (whole ? second : "") + second);
  }
  const auto zeros = read_batch_results(write("z.jsonl", first + std::string(9, '\0')));
  ASSERT_TRUE(zeros);
  EXPECT_EQ(zeros->whole_bytes, static_cast<int64_t>(first.size()));
}

TEST_F(BatchFiles, ForeignFilesAreLeftAlone) {
  for (const std::string& text :
       {std::string("{}\n"), std::string("hello"), std::string("\n"), chat_line("a"),
        std::string("{\"id\":\"x\""), std::string(R"({"id":"batch_req_0","response":{}})") + "\n",
        std::string(R"({"id":"batch_req_1","response":{},"error":{}})") + "\n",
        std::string(R"({"id":"batch_req_1"})") + "\n", std::string(200, '[') + "\n"}) {
    const auto done = read_batch_results(write("out.jsonl", text));
    ASSERT_FALSE(done) << text;
    EXPECT_EQ(done.error().code, ErrorCode::kUsage);
    EXPECT_NE(done.error().message.find("no result of a batch"), std::string::npos);
  }
}

TEST_F(BatchFiles, TwoRunsDoNotWriteOneFile) {
  const auto path = folder_ / "out.jsonl";
  auto writer = BatchWriter::open(path, {});
  ASSERT_TRUE(writer);
  EXPECT_NE(BatchWriter::open(path, {}).error().message.find("another run writes this file"),
            std::string::npos);
  ASSERT_TRUE(writer->write(batch_error_line(1, "", "c", "m")));
  {
    const BatchWriter ends = *std::move(writer);
  }
  EXPECT_NE(BatchWriter::open(path, {}).error().message.find("has changed since it was read"),
            std::string::npos);
}

TEST_F(BatchFiles, FilesThatCannotBeReadOrWritten) {
  EXPECT_EQ(BatchReader::open(folder_ / "none").error().code, ErrorCode::kNotFound);
  auto folder = BatchReader::open(folder_);
  ASSERT_TRUE(folder);
  EXPECT_NE(folder->next().error().message.find("cannot be read"), std::string::npos);
  EXPECT_FALSE(BatchWriter::open(folder_ / "no" / "out", {}));
  // A full disk: nothing of the line that does not fit, and a word.
  auto full = BatchWriter::open("/dev/full", {});
  ASSERT_TRUE(full);
  EXPECT_NE(full->write("x\n").error().message.find("cannot be written"), std::string::npos);
}

}  // namespace
}  // namespace hadal::server
