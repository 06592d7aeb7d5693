/* The C library from C11: everything of hadal.h is called once and more, beside chip.h. */
#include "hadal/hadal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hadal/chip.h" /* the two headers live together */

static int faults;

#define EXPECT(condition)                                    \
  do {                                                       \
    if (!(condition)) {                                      \
      printf("%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      ++faults;                                              \
    }                                                        \
  } while (0)

#define EXPECT_OK(call)                                                                    \
  do {                                                                                     \
    const hadal_code code_ = (call);                                                       \
    if (code_ != HADAL_CODE_OK) {                                                          \
      printf("%s:%d: %s: %s\n", __FILE__, __LINE__, hadal_code_name(code_), failure.text); \
      ++faults;                                                                            \
    }                                                                                      \
  } while (0)

/* Refused with this code and these words in the text. */
#define EXPECT_REFUSED(call, expected, words)                                                    \
  do {                                                                                           \
    memset(failure.text, 0, sizeof failure.text);                                                \
    const hadal_code code_ = (call);                                                             \
    if (code_ != (expected) || failure.code != (int32_t)(expected) ||                            \
        !strstr(failure.text, words)) {                                                          \
      printf("%s:%d: %s, \"%s\"; expected \"%s\"\n", __FILE__, __LINE__, hadal_code_name(code_), \
             failure.text, words);                                                               \
      ++faults;                                                                                  \
    }                                                                                            \
  } while (0)

static hadal_failure failure = {.size = sizeof failure};

struct heard {
  char text[8192];
  atomic_int events, overs;
  int32_t answer; /* of the callback */
};

static int32_t on_event(void* context, const hadal_event* event) {
  struct heard* heard = context;
  const size_t used = strlen(heard->text);
  snprintf(heard->text + used, sizeof heard->text - used, "%s", event->text);
  atomic_fetch_add(&heard->events, 1);
  if (event->over) atomic_fetch_add(&heard->overs, 1);
  return heard->answer;
}

static int32_t count_progress(void* context, uint64_t done, uint64_t total) {
  ++*(int*)context;
  EXPECT(done <= total);
  return 0;
}
static int32_t cancel_progress(void* context, uint64_t done, uint64_t total) {
  (void)context, (void)done, (void)total;
  return 1;
}
static void count_line(void* context, uint32_t level, const char* text) {
  ++*(int*)context;
  EXPECT(level >= HADAL_LEVEL_INFO && level <= HADAL_LEVEL_ERROR && *text);
}

static hadal_answer_options greedy(int64_t tokens) {
  hadal_answer_options o = {.size = sizeof o};
  o.given = HADAL_GIVEN_TEMPERATURE | HADAL_GIVEN_SEED;
  o.seed = 7;
  o.max_new_tokens = tokens;
  return o;
}

static void check_opening(const char* path) {
  hadal_source source = {.size = sizeof source, .path = path};
  hadal_model_options options = {.size = sizeof options, .threads = 1, .context = 128};
  hadal_model* model = (hadal_model*)&source;
  EXPECT_REFUSED(hadal_model_open(NULL, NULL, &model, &failure), HADAL_CODE_USAGE,
                 "source is NULL");
  EXPECT(model == NULL);
  EXPECT_REFUSED(hadal_model_open(&source, NULL, NULL, &failure), HADAL_CODE_USAGE, "out is NULL");
  source.path = "/nowhere/model.gguf";
  EXPECT_REFUSED(hadal_model_open(&source, NULL, &model, &failure), HADAL_CODE_NOT_FOUND,
                 "/nowhere");
  source.path = NULL;
  EXPECT_REFUSED(hadal_model_open(&source, NULL, &model, &failure), HADAL_CODE_USAGE,
                 "one of path, descriptor and data");
  source.path = path;
  source.size = 3;
  EXPECT_REFUSED(hadal_model_open(&source, NULL, &model, &failure), HADAL_CODE_USAGE,
                 "source.size is 3");
  source.size = sizeof source;
  options.threads = 5000;
  EXPECT_REFUSED(hadal_model_open(&source, &options, &model, &failure), HADAL_CODE_USAGE,
                 "threads");
  options.threads = 1;
  options.chip = "no such chip";
  EXPECT_REFUSED(hadal_model_open(&source, &options, &model, &failure), HADAL_CODE_USAGE,
                 "no such chip");
  options.chip = NULL;
  options.chat_format = "\xff";
  EXPECT_REFUSED(hadal_model_open(&source, &options, &model, &failure), HADAL_CODE_USAGE,
                 "not UTF-8");
  options.chat_format = "morse";
  EXPECT_REFUSED(hadal_model_open(&source, &options, &model, &failure), HADAL_CODE_USAGE, "morse");
  options.chat_format = NULL;
  options.progress = cancel_progress;
  EXPECT_REFUSED(hadal_model_open(&source, &options, &model, &failure), HADAL_CODE_INTERRUPTED,
                 "cancelled");
  EXPECT(model == NULL);

  /* a struct of a newer header: its zeros are taken, what is set there is not */
  struct {
    hadal_model_options known;
    uint64_t newer;
  } larger = {.known = {.size = sizeof larger, .threads = 1, .context = 64}};
  EXPECT_OK(hadal_model_open(&source, &larger.known, &model, &failure));
  EXPECT_OK(hadal_model_close(model, &failure));
  larger.newer = 1;
  EXPECT_REFUSED(hadal_model_open(&source, &larger.known, &model, &failure), HADAL_CODE_USAGE,
                 "newer");

  hadal_plan plan = {.size = sizeof plan};
  EXPECT_OK(hadal_model_plan(&source, NULL, 0, &plan, &failure));
  EXPECT(plan.fits == 1 && plan.needed_bytes > 0 && plan.available_bytes > plan.needed_bytes);
  EXPECT(plan.context == 512 && strstr(plan.text, "weights "));
  EXPECT(plan.decode_tokens_per_second == 0);
  plan.size = 8;
  EXPECT_REFUSED(hadal_model_plan(&source, NULL, 0, &plan, &failure), HADAL_CODE_USAGE,
                 "out.size is 8");

  /* a failure may be small, or absent */
  EXPECT(hadal_model_open(NULL, NULL, &model, NULL) == HADAL_CODE_USAGE);
  hadal_failure small = {.size = offsetof(hadal_failure, text) + 7};
  small.text[7] = 'x';
  EXPECT(hadal_model_open(NULL, NULL, &model, &small) == HADAL_CODE_USAGE);
  EXPECT(strcmp(small.text, "source") == 0 && small.text[7] == 'x');
}

static void check_tokens(hadal_model* model) {
  int32_t ids[64];
  size_t count = 0, bytes = 0;
  char text[64] = {0};
  EXPECT_OK(hadal_tokenize(model, "Hello", 5, 0, ids, 64, &count, &failure));
  EXPECT(count > 0 && count <= 5);
  EXPECT_OK(hadal_detokenize(model, ids, count, 0, text, sizeof text, &bytes, &failure));
  EXPECT(bytes == 5 && memcmp(text, "Hello", 5) == 0);
  size_t same = 0;
  ids[1] = -7;
  EXPECT_OK(hadal_tokenize(model, "Hello", 5, 0, ids, 1, &same, &failure));
  EXPECT(same == count && ids[1] == -7); /* not beyond the room */
  EXPECT_REFUSED(hadal_tokenize(model, "\xc0\x80", 2, 0, ids, 64, &count, &failure),
                 HADAL_CODE_USAGE, "UTF-8");
  EXPECT_REFUSED(hadal_tokenize(model, "a", 1, 4, ids, 64, &count, &failure), HADAL_CODE_USAGE,
                 "flags");
  EXPECT_REFUSED(hadal_tokenize(NULL, "a", 1, 0, ids, 64, &count, &failure), HADAL_CODE_USAGE,
                 "model is NULL");
  ids[0] = 320;
  EXPECT_REFUSED(hadal_detokenize(model, ids, 1, 0, text, 64, &bytes, &failure), HADAL_CODE_USAGE,
                 "320");
}

static void check_wrong_requests(hadal_model* model) {
  hadal_answer* answer = NULL;
  hadal_prompt prompt = {.size = sizeof prompt, .text = "abc"};
  hadal_answer_options o = greedy(4);
#define REFUSED(words)                                                              \
  EXPECT_REFUSED(hadal_generate_start(model, &prompt, &o, NULL, &answer, &failure), \
                 HADAL_CODE_USAGE, words)
  o.temperature = 101;
  REFUSED("temperature");
  o = greedy(4);
  o.n = 129;
  REFUSED("n: 129");
  o = greedy(-1);
  REFUSED("max_tokens");
  o = greedy(4);
  o.given = 1u << 20;
  REFUSED("given");
  o = greedy(4);
  o.shape = 9;
  REFUSED("shape is 9");
  o = greedy(4);
  o.stop_count = 1;
  REFUSED("stop is NULL");
  const char* stop = "\xed\xa0\x80";
  o.stop = &stop;
  REFUSED("stop[0] is not UTF-8");
  o = greedy(4);
  o.adapter = "poet";
  REFUSED("poet");
  o = greedy(4);
  o.top_logprobs = 3;
  REFUSED("top_logprobs");
  o = greedy(4);
  const hadal_bias bias = {.id = 320, .bias = 1};
  o.logit_bias = &bias, o.logit_bias_count = 1;
  REFUSED("320");
  o = greedy(4);
  hadal_listener both = {.size = sizeof both, .on_event = on_event, .on_ready = free};
  EXPECT_REFUSED(hadal_generate_start(model, &prompt, &o, &both, &answer, &failure),
                 HADAL_CODE_USAGE, "give one");
  const int32_t id = -1;
  prompt.ids = &id, prompt.id_count = 1;
  REFUSED("one of text and ids");
  prompt.text = NULL;
  REFUSED("token id -1");
  EXPECT(answer == NULL);
#undef REFUSED
  hadal_chat chat = {.size = sizeof chat};
  EXPECT_REFUSED(hadal_chat_start(model, &chat, NULL, NULL, &answer, &failure), HADAL_CODE_USAGE,
                 "no messages");
  hadal_message message = {.size = sizeof message, .role = "user", .content = "\xff"};
  chat.messages = &message, chat.message_count = 1;
  EXPECT_REFUSED(hadal_chat_start(model, &chat, NULL, NULL, &answer, &failure), HADAL_CODE_USAGE,
                 "messages[0].content is not UTF-8");
  message.size = 1;
  EXPECT_REFUSED(hadal_chat_start(model, &chat, NULL, NULL, &answer, &failure), HADAL_CODE_USAGE,
                 "messages[0].size");
  message.size = sizeof message, message.content = "x";
  chat.tools_json = "[{";
  EXPECT(hadal_chat_start(model, &chat, NULL, NULL, &answer, &failure) == HADAL_CODE_USAGE);
  chat.tools_json = NULL, chat.tool_use = HADAL_TOOLS_REQUIRED;
  EXPECT_REFUSED(hadal_chat_start(model, &chat, NULL, NULL, &answer, &failure), HADAL_CODE_USAGE,
                 "tools_json");
  /* nothing of NULL does harm */
  hadal_answer_free(NULL);
  hadal_answer_cancel(NULL);
  hadal_grammar_free(NULL);
  hadal_conversation_free(NULL);
  EXPECT(hadal_model_close(NULL, &failure) == HADAL_CODE_OK);
  EXPECT_REFUSED(hadal_answer_wait(NULL, 0, NULL, &failure), HADAL_CODE_USAGE, "answer is NULL");
}

/* The same answer by polling and by callback. */
static void check_answers(hadal_model* model) {
  hadal_prompt prompt = {.size = sizeof prompt, .text = "Hello there"};
  hadal_answer_options o = greedy(12);
  o.logprobs = 1, o.top_logprobs = 2;
  hadal_answer* answer = NULL;
  EXPECT_OK(hadal_generate_start(model, &prompt, &o, NULL, &answer, &failure));
  if (!answer) return;
  char text[8192] = "";
  hadal_event event = {.size = sizeof event};
  do {
    EXPECT_OK(hadal_answer_next(answer, -1, &event, &failure));
    strncat(text, event.text, sizeof text - strlen(text) - 1);
  } while (!event.over);
  EXPECT(event.choice == 0 && event.end == HADAL_END_LENGTH);
  EXPECT_OK(hadal_answer_next(answer, -1, &event, &failure));
  EXPECT(event.choice == -1 && event.over == 1);
  hadal_result result = {.size = sizeof result};
  EXPECT_OK(hadal_answer_result(answer, 0, &result, &failure));
  EXPECT(strcmp(result.text, text) == 0 && result.end == HADAL_END_LENGTH);
  EXPECT(result.id_count == 12 && result.token_count == 12 && result.usage.new_tokens == 12);
  EXPECT(result.tokens[0].top_count == 2 && result.tokens[0].top[0].id == result.ids[0]);
  EXPECT_REFUSED(hadal_answer_result(answer, 1, &result, &failure), HADAL_CODE_USAGE,
                 "choice is 1");
  int32_t ids[12];
  memcpy(ids, result.ids, sizeof ids);
  hadal_answer_free(answer);

  struct heard heard = {.text = ""};
  hadal_listener listener = {.size = sizeof listener, .on_event = on_event, .context = &heard};
  uint32_t over = 0;
  EXPECT_OK(hadal_generate_start(model, &prompt, &o, &listener, &answer, &failure));
  EXPECT_OK(hadal_answer_wait(answer, 60, &over, &failure));
  EXPECT(over == 1);
  EXPECT_REFUSED(hadal_answer_next(answer, 0, &event, &failure), HADAL_CODE_USAGE, "on_event");
  EXPECT_OK(hadal_answer_result(answer, 0, &result, &failure));
  EXPECT(result.id_count == 12 && memcmp(ids, result.ids, sizeof ids) == 0);
  hadal_answer_free(answer);
  EXPECT(strcmp(heard.text, text) == 0 && heard.overs == 1);

  /* a callback that cancels */
  heard.answer = 1;
  o.max_new_tokens = 0;
  EXPECT_OK(hadal_generate_start(model, &prompt, &o, &listener, &answer, &failure));
  EXPECT_OK(hadal_answer_wait(answer, 60, &over, &failure));
  EXPECT(over == 1);
  EXPECT_OK(hadal_answer_result(answer, 0, &result, &failure));
  EXPECT(result.end == HADAL_END_INTERRUPTED);
  hadal_answer_free(answer);
}

static void* cancel_soon(void* answer) {
  hadal_answer_cancel(answer);
  return NULL;
}

static void check_cancelling(hadal_model* model) {
  hadal_prompt prompt = {.size = sizeof prompt, .text = "abc"};
  hadal_answer_options o = greedy(0);
  o.ignore_ending = 1, o.n = 2;
  for (int i = 0; i < 20; ++i) {
    hadal_answer* answer = NULL;
    pthread_t other;
    uint32_t over = 0;
    EXPECT_OK(hadal_generate_start(model, &prompt, &o, NULL, &answer, &failure));
    pthread_create(&other, NULL, cancel_soon, answer);
    EXPECT_OK(hadal_answer_wait(answer, 60, &over, &failure));
    EXPECT(over == 1);
    pthread_join(other, NULL);
    hadal_answer_free(answer);
  }
  hadal_answer* dropped = NULL; /* freed while it runs */
  EXPECT_OK(hadal_generate_start(model, &prompt, &o, NULL, &dropped, &failure));
  hadal_answer_free(dropped);
}

static void check_grammars(hadal_model* model) {
  hadal_grammar* grammar = NULL;
  EXPECT_REFUSED(hadal_grammar_compile(model, HADAL_SHAPE_JSON_SCHEMA, "{\"type\": \"frog\"}",
                                       &grammar, &failure),
                 HADAL_CODE_USAGE, "schema");
  EXPECT_REFUSED(hadal_grammar_compile(model, HADAL_SHAPE_REGEX, "(", &grammar, &failure),
                 HADAL_CODE_USAGE, "regex");
  EXPECT_REFUSED(hadal_grammar_compile(model, HADAL_SHAPE_TEXT, "", &grammar, &failure),
                 HADAL_CODE_USAGE, "shape");
  EXPECT(grammar == NULL);
  EXPECT_OK(hadal_grammar_compile(model, HADAL_SHAPE_REGEX, "(yes|no)!", &grammar, &failure));
  hadal_prompt prompt = {.size = sizeof prompt, .text = "abc"};
  hadal_answer_options o = greedy(20);
  o.grammar = grammar;
  hadal_answer* answer = NULL;
  hadal_result result = {.size = sizeof result};
  EXPECT_OK(hadal_generate_start(model, &prompt, &o, NULL, &answer, &failure));
  hadal_grammar_free(grammar); /* the answer goes on */
  EXPECT_OK(hadal_answer_wait(answer, 60, NULL, &failure));
  EXPECT_OK(hadal_answer_result(answer, 0, &result, &failure));
  EXPECT(strcmp(result.text, "yes!") == 0 || strcmp(result.text, "no!") == 0);
  EXPECT(result.end == HADAL_END_STOP);
  hadal_answer_free(answer);
}

/* Two of three logits rows equal those of all rows; the largest is the greedy token. */
static void check_logits(hadal_model* model) {
  const int32_t ids[3] = {5, 6, 7};
  static float all[3 * 320], two[2 * 320];
  EXPECT_OK(hadal_logits(model, ids, 3, 0, all, 3 * 320, &failure));
  EXPECT_OK(hadal_logits(model, ids, 3, 1, two, 2 * 320, &failure));
  EXPECT(memcmp(all + 320, two, sizeof two) == 0);
  EXPECT_REFUSED(hadal_logits(model, ids, 3, 1, two, 639, &failure), HADAL_CODE_USAGE,
                 "640 floats");
  EXPECT_REFUSED(hadal_logits(model, ids, 3, 3, two, 640, &failure), HADAL_CODE_USAGE,
                 "first is 3");
  int32_t best = 0;
  for (int32_t i = 0; i < 320; ++i)
    if (all[640 + i] > all[640 + best]) best = i;
  hadal_prompt prompt = {.size = sizeof prompt, .ids = ids, .id_count = 3};
  hadal_answer_options o = greedy(1);
  hadal_answer* answer = NULL;
  hadal_result result = {.size = sizeof result};
  EXPECT_OK(hadal_generate_start(model, &prompt, &o, NULL, &answer, &failure));
  EXPECT_OK(hadal_answer_wait(answer, 60, NULL, &failure));
  EXPECT_OK(hadal_answer_result(answer, 0, &result, &failure));
  EXPECT(result.id_count == 1 && result.ids[0] == best);
  hadal_answer_free(answer);
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  EXPECT(hadal_library_abi() == HADAL_LIBRARY_ABI);
  EXPECT(strcmp(hadal_library_version(), HADAL_VERSION) == 0);
  check_opening(argv[1]);
  int progress = 0, lines = 0;
  hadal_source source = {.size = sizeof source, .path = argv[1]};
  hadal_model_options options = {.size = sizeof options,
                                 .threads = 2,
                                 .chat_format = "deepseek-v3.1",
                                 .log = count_line,
                                 .log_context = &lines,
                                 .progress = count_progress,
                                 .progress_context = &progress};
  hadal_model* model = NULL;
  EXPECT_OK(hadal_model_open(&source, &options, &model, &failure));
  if (!model) return 1;
  EXPECT(progress > 0);
  hadal_model_info info = {.size = sizeof info};
  EXPECT_OK(hadal_model_get_info(model, &info, &failure));
  EXPECT(strcmp(info.family, "qwen3") == 0 && info.vocabulary == 320 && info.context == 512);
  EXPECT(strcmp(info.chat_format, "deepseek-v3.1") == 0 && info.bos == 314);
  EXPECT(strncmp(info.fingerprint, "hadal-", 6) == 0);
  check_tokens(model);
  check_wrong_requests(model);
  check_answers(model);
  check_cancelling(model);
  check_grammars(model);
  check_logits(model);
  hadal_counts counts = {.size = sizeof counts};
  EXPECT_OK(hadal_model_get_counts(model, &counts, &failure));
  EXPECT(counts.new_tokens > 0 && counts.steps > 0);
  EXPECT_OK(hadal_model_close(model, &failure));
  printf("%d faults\n", faults);
  return faults ? 1 : 0;
}
