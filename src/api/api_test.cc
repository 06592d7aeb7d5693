// The C library through hadal.hpp: where models come from, conversations, adapters, the page file,
// threads, memory, and freeing in any order.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "hadal/hadal.hpp"

namespace hadal::lib {
namespace {

namespace fs = std::filesystem;

std::string golden(const std::string& name) {
  return (fs::path(HADAL_TEST_DATA) / "golden" / name).string();
}

hadal_model_options small(int threads = 1) {
  auto options = make<hadal_model_options>();
  options.threads = threads;
  options.context = 256;
  options.max_sequences = 4;
  options.chat_format = "deepseek-v3.1";
  return options;
}

hadal_answer_options greedy(int64_t tokens) {
  auto options = make<hadal_answer_options>();
  options.given = HADAL_GIVEN_TEMPERATURE;
  options.max_new_tokens = tokens;
  return options;
}

std::vector<int32_t> ids_of(Model& model, const std::string& text, int64_t tokens = 16) {
  Answer answer = model.generate(text, greedy(tokens));
  answer.wait();
  return answer.result().ids;
}

template <typename Call>
hadal_code code_of(Call call) {
  try {
    call();
  } catch (const Failure& failure) {
    EXPECT_STRNE(failure.what(), "");
    return failure.code();
  }
  return HADAL_CODE_OK;
}

/// A folder that goes with the test.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("hadal_api_" + std::to_string(::getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
};

/// When it stays the same for a while: threads that were joined are listed a little longer.
int64_t threads_of_process() {
  const auto count = [] {
    return std::distance(fs::directory_iterator("/proc/self/task"), fs::directory_iterator());
  };
  int64_t threads = count();
  for (int same = 0; same < 10; ++same) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (const int64_t now = count(); now != threads) {
      threads = now;
      same = 0;
    }
  }
  return threads;
}

int64_t resident_bytes() {
#ifdef HADAL_EMULATED
  // statm is of the emulator, whose own memory grows with each model, too, where the program's does
  // not. Of the program alone it answers the map: what may be written there is held.
  std::ifstream file("/proc/self/maps");
  int64_t bytes = 0;
  for (std::string line; std::getline(file, line);) {
    char* end = nullptr;
    const uint64_t from = std::strtoull(line.c_str(), &end, 16);
    const uint64_t to = std::strtoull(end + 1, &end, 16);
    if (end[1] == 'r' && end[2] == 'w') bytes += static_cast<int64_t>(to - from);
  }
  return bytes;
#else
  std::ifstream file("/proc/self/statm");
  int64_t pages = 0;
  file >> pages >> pages;
  return pages * ::sysconf(_SC_PAGESIZE);
#endif
}

TEST(Library, AnswersTheSameFromPathDescriptorAndMemory) {
  const std::string file = golden("qwen3-gguf/model.gguf");
  Model by_path(file, small());
  const auto expected = ids_of(by_path, "Hello");
  ASSERT_EQ(expected.size(), 16U);

  auto source = make<hadal_source>();
  source.has_descriptor = 1;
  source.descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(source.descriptor, 0);
  Model by_descriptor(source, small());
  ::close(source.descriptor);
  EXPECT_EQ(ids_of(by_descriptor, "Hello"), expected);

  std::ifstream in(file, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  const std::string before = bytes;
  source = make<hadal_source>();
  source.data = bytes.data();
  source.data_bytes = bytes.size();
  {
    Model by_memory(source, small());
    EXPECT_EQ(ids_of(by_memory, "Hello"), expected);
  }
  EXPECT_EQ(bytes, before);  // what was packed was not given back to the system
  EXPECT_EQ(by_path.info().fingerprint, std::string(by_descriptor.info().fingerprint));

  source.data_bytes = 100;
  EXPECT_EQ(code_of([&] { Model(source, small()); }), HADAL_CODE_FAILED);
  source = make<hadal_source>();
  source.has_descriptor = 1;
  source.descriptor = -1;
  EXPECT_EQ(code_of([&] { Model(source, small()); }), HADAL_CODE_FAILED);
}

TEST(Library, PutsPartsOnOtherDevicesAndRefusesThoseThatAreNotThere) {
  const std::string file = golden("qwen3-gguf/model.gguf");
  const auto answer = [&](const hadal_model_options& options) {
    Model model(file, options);
    return ids_of(model, "Hello");
  };
  const auto expected = answer(small());
  hadal_model_options options = small();
  options.place = "layers 1-: cpu:0#2; head: cpu:0#2";
  options.fallback = 1;
  EXPECT_EQ(answer(options), expected);
  options = small();
  options.ranks = 2;
  EXPECT_EQ(answer(options).size(), expected.size());
  const auto refused = [&](auto change, const char* said) {
    hadal_model_options wrong = small();
    change(wrong);
    try {
      (void)Model(file, wrong);
      ADD_FAILURE() << said;
    } catch (const std::exception& e) {
      EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
    }
  };
  auto setting = make<hadal_chip_setting>();
  setting.name = "volume";
  setting.value = "11";
  refused([](auto& o) { o.device = 7; }, "device 7 does not exist");
  refused([](auto& o) { o.device = -1; }, "device is -1");
  refused([](auto& o) { o.place = "layers: cpu"; }, "expected layers A-B");
  refused(
      [&](auto& o) {
        o.chip_settings = &setting;
        o.chip_setting_count = 1;
      },
      "volume");
}

TEST(Library, ChatsWithAConversationThatIsSavedAndGoesOn) {
  const Folder folder;
  const std::string file = (folder.path / "talk.json").string();
  Model model(golden("qwen3"), small());
  Conversation talk;
  talk.add({.role = "user", .content = "Grüße"});
  Answer first = model.chat(talk, greedy(8));
  first.wait();
  talk.add(first);
  talk.save(file);
  Conversation loaded = Conversation::load(file);
  ASSERT_EQ(loaded.size(), 2U);
  EXPECT_EQ(loaded[0].content, "Grüße");
  EXPECT_EQ(loaded[1].role, "assistant");
  EXPECT_EQ(loaded[1].content, first.result().text);
  EXPECT_EQ(code_of([&] { (void)loaded[2]; }), HADAL_CODE_USAGE);
  loaded.undo();
  EXPECT_EQ(loaded.size(), 0U);
  EXPECT_EQ(code_of([&] { loaded.undo(); }), HADAL_CODE_NOT_FOUND);
  EXPECT_EQ(code_of([&] { Conversation::load(file + "x"); }), HADAL_CODE_NOT_FOUND);
}

TEST(Library, AConversationGoesOnFromThePageFileWithoutItsPrompt) {
  const Folder folder;
  const std::string pages = (folder.path / "pages").string();
  auto options = small();
  options.kv_file = pages.c_str();
  options.kv_file_bytes = 16 << 20;
  const std::string prompt(200, 'a');
  std::vector<int32_t> ids;
  {
    Model model(golden("qwen3"), options);
    Answer answer = model.generate(prompt, greedy(4));
    answer.wait();
    EXPECT_EQ(answer.result().usage.cached_tokens, 0);
    ids = answer.result().ids;
  }
  Model again(golden("qwen3"), options);
  Answer answer = again.generate(prompt, greedy(4));
  answer.wait();
  EXPECT_GE(answer.result().usage.cached_tokens, 64);
  EXPECT_EQ(answer.result().ids, ids);
  // other salts share nothing
  auto salted = greedy(4);
  salted.salt = "mine";
  Answer alone = again.generate(prompt, salted);
  alone.wait();
  EXPECT_EQ(alone.result().usage.cached_tokens, 0);
}

TEST(Library, LoadsAndUnloadsAdapters) {
  auto options = small();
  options.more_adapters = 1;
  options.ids_only = 1;  // it has no tokenizer
  Model model(HADAL_ADAPTER_MODEL, options);
  const std::vector<int32_t> prompt{5, 6, 7, 8};
  const auto run = [&](const char* adapter) {
    auto wanted = greedy(12);
    wanted.adapter = adapter;
    Answer answer = model.generate(prompt, wanted);
    answer.wait();
    return answer.result().ids;
  };
  const auto plain = run(nullptr);
  EXPECT_EQ(code_of([&] { run("poet"); }), HADAL_CODE_USAGE);
  model.load_adapter("poet", HADAL_ADAPTER);
  EXPECT_EQ(run(nullptr), plain);
  (void)run("poet");
  EXPECT_EQ(code_of([&] { model.load_adapter("poet", HADAL_ADAPTER); }), HADAL_CODE_USAGE);
  auto endless = greedy(0);
  endless.adapter = "poet";
  endless.ignore_ending = 1;
  Answer running = model.generate(prompt, endless);
  EXPECT_EQ(code_of([&] { model.unload_adapter("poet"); }), HADAL_CODE_BUSY);
  running.cancel();
  running.wait();
  while (code_of([&] { model.unload_adapter("poet"); }) == HADAL_CODE_BUSY) {
  }
  EXPECT_EQ(code_of([&] { run("poet"); }), HADAL_CODE_USAGE);
  EXPECT_EQ(run(nullptr), plain);
  EXPECT_EQ(code_of([&] { model.load_adapter("none", "/nowhere"); }), HADAL_CODE_NOT_FOUND);
}

TEST(Library, ManyThreadsAskAndEachGetsTheAnswerOfOneAlone) {
  Model model(golden("qwen3"), small(2));
  const auto expected = ids_of(model, "Hello");
  std::vector<std::thread> askers;
  std::atomic<int> equal{0};
  for (int t = 0; t < 4; ++t)
    askers.emplace_back([&, t] {
      for (int i = 0; i < 4; ++i) {
        std::string text;
        Answer answer = model.generate("Hello", greedy(16), [&](const Event& event) {
          text += event.text;
          return true;
        });
        if (t == 3) answer.cancel();
        answer.wait();
        const Result result = answer.result();
        if (t == 3 || (result.ids == expected && result.text == text)) ++equal;
      }
    });
  for (std::thread& t : askers) t.join();
  EXPECT_EQ(equal, 16);
}

TEST(Library, SeveralModelsShareOnePool) {
  const int64_t before = threads_of_process();
  Model first(golden("qwen3"), small(3));
  const int64_t with_one = threads_of_process();
  EXPECT_EQ(with_one, before + 4);  // two workers beside the caller, the engine's, the teller's
  Model second(golden("qwen3"), small(3));
  EXPECT_EQ(threads_of_process(), with_one + 2);  // no more workers
  const auto expected = ids_of(first, "Hello", 32);
  Answer a = first.generate("Hello", greedy(32)), b = second.generate("Hello", greedy(32));
  a.wait();
  b.wait();
  EXPECT_EQ(a.result().ids, expected);
  EXPECT_EQ(b.result().ids, expected);
}

TEST(Library, AModelThatIsClosedEndsItsAnswersWhichStayReadable) {
  std::optional<Model> model(std::in_place, golden("qwen3"), small());
  auto endless = greedy(0);
  endless.ignore_ending = 1;
  Answer done = model->generate("Hello", greedy(4));
  done.wait();
  Grammar grammar = model->grammar(HADAL_SHAPE_JSON_OBJECT);
  // A tiny model fills its context in a moment: the last of many is one that has not ended by then.
  std::vector<Answer> running;
  for (int i = 0; i < 64; ++i) running.push_back(model->generate("Hello", endless));
  ASSERT_TRUE(running.front().next());
  model.reset();
  EXPECT_EQ(done.result().ids.size(), 4U);
  for (Answer& each : running) EXPECT_TRUE(each.wait(0));
  EXPECT_EQ(running.back().result().end, HADAL_END_INTERRUPTED);
  running.back().cancel();
  Model other(golden("qwen3"), small());
  auto wanted = greedy(4);
  wanted.grammar = grammar.get();
  EXPECT_EQ(code_of([&] { other.generate("x", wanted); }), HADAL_CODE_USAGE);
}

TEST(Library, CallbacksMayFreeButNotWait) {
  Model model(golden("qwen3"), small());
  hadal_answer* other = nullptr;
  auto prompt = make<hadal_prompt>();
  prompt.text = "abc";
  auto endless = greedy(0);
  endless.ignore_ending = 1;
  ASSERT_EQ(hadal_generate_start(model.get(), &prompt, &endless, nullptr, &other, nullptr),
            HADAL_CODE_OK);
  std::vector<hadal_code> codes;
  Answer answer = model.generate("Hello", greedy(4), [&](const Event& event) {
    if (!event.over) return true;
    codes.push_back(hadal_answer_wait(other, -1, nullptr, nullptr));
    codes.push_back(hadal_model_close(model.get(), nullptr));
    hadal_answer_free(other);
    return true;
  });
  answer.wait();
  EXPECT_EQ(codes, (std::vector<hadal_code>{HADAL_CODE_USAGE, HADAL_CODE_USAGE}));
}

TEST(Library, WhatACallbackThrowsComesOutOfWait) {
  Model model(golden("qwen3"), small());
  auto endless = greedy(0);
  endless.ignore_ending = 1;
  Answer answer = model.generate("Hello", endless,
                                 [](const Event&) -> bool { throw std::runtime_error("enough"); });
  EXPECT_THROW(answer.wait(), std::runtime_error);
}

TEST(Library, SamplesAndShapesAndDeadlines) {
  Model model(golden("qwen3"), small());
  auto options = make<hadal_answer_options>();
  options.given = HADAL_GIVEN_TEMPERATURE | HADAL_GIVEN_SEED;
  options.temperature = 1;
  options.seed = 3;
  options.n = 3;
  options.max_new_tokens = 8;
  Answer answer = model.generate("Hello", options);
  std::vector<std::string> texts(3);
  int ends = 0;
  for (auto event = answer.next(); event && event->choice >= 0; event = answer.next()) {
    texts[static_cast<size_t>(event->choice)] += event->text;
    ends += event->end != HADAL_END_NONE;
    if (event->over) break;
  }
  EXPECT_EQ(ends, 3);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(answer.result(i).text, texts[static_cast<size_t>(i)]);
  EXPECT_NE(answer.result(0).ids, answer.result(1).ids);

  options = greedy(60);
  options.shape = HADAL_SHAPE_JSON_SCHEMA;
  options.shape_text = R"({"type": "array", "items": {"type": "boolean"}, "maxItems": 3})";
  const std::vector<Message> messages{{.role = "user", .content = "Which?"}};
  Answer shaped = model.chat(messages, options);
  shaped.wait();
  const std::string text = shaped.result().text;
  EXPECT_EQ(text.substr(text.find_first_not_of(" \n"), 1), "[");

  options = greedy(0);
  options.ignore_ending = 1;
  options.deadline_seconds = 0.001;
  Answer late = model.generate("Hello", options);
  late.wait();
  EXPECT_EQ(late.result().end, HADAL_END_DEADLINE);
}

TEST(Library, StaysFlatOverAHundredModels) {
  // What differs between two rounds is what allocator and thread stacks keep: the model's weights
  // (0.3 MB), caches and working memory are some MB, so one that stayed would cost 100 times that.
  [[maybe_unused]] constexpr int64_t kBound = 8 << 20;
  int64_t after_ten = 0;
  for (int i = 0; i < 100; ++i) {
    {
      Model model(golden("qwen3"), small(2));
      ASSERT_EQ(ids_of(model, "Hello", 4).size(), 4U);
    }
    if (i == 9) after_ten = resident_bytes();
  }
  const int64_t grown = resident_bytes() - after_ten;
  RecordProperty("grown_bytes", std::to_string(grown));
  std::printf("resident memory: %lld KiB after 10 models, %lld KiB more after 100\n",
              static_cast<long long>(after_ten >> 10), static_cast<long long>(grown >> 10));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(grown, kBound);
#endif
  EXPECT_LT(threads_of_process(), 4);
}

}  // namespace
}  // namespace hadal::lib
