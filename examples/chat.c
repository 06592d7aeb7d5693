/* A chat in C: asks one question, writes the answer as it comes.
 *
 *   chat MODEL QUESTION [CHAT_FORMAT] */
#include <hadal/hadal.h>
#include <stdio.h>

static int fail(const char* what, const hadal_failure* failure) {
  fprintf(stderr, "%s: %s\n", what, failure->text);
  return 1;
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  hadal_failure failure = {.size = sizeof failure};
  hadal_source source = {.size = sizeof source, .path = argv[1]};
  hadal_model_options options = {.size = sizeof options, .chat_format = argc > 3 ? argv[3] : NULL};
  hadal_model* model = NULL;
  if (hadal_model_open(&source, &options, &model, &failure) != HADAL_CODE_OK)
    return fail("the model", &failure);

  hadal_message message = {.size = sizeof message, .role = "user", .content = argv[2]};
  hadal_chat chat = {.size = sizeof chat, .messages = &message, .message_count = 1};
  hadal_answer_options wishes = {.size = sizeof wishes, .max_new_tokens = 64};
  hadal_answer* answer = NULL;
  if (hadal_chat_start(model, &chat, &wishes, NULL, &answer, &failure) != HADAL_CODE_OK) {
    (void)hadal_model_close(model, NULL);
    return fail("the question", &failure);
  }
  hadal_event event = {.size = sizeof event};
  do {
    if (hadal_answer_next(answer, -1, &event, &failure) != HADAL_CODE_OK) break;
    fputs(event.text, stdout);
    fflush(stdout);
  } while (!event.over);

  hadal_result result = {.size = sizeof result};
  const hadal_code code = hadal_answer_result(answer, 0, &result, &failure);
  if (code == HADAL_CODE_OK) printf("\n[%lld tokens]\n", (long long)result.usage.new_tokens);
  hadal_answer_free(answer);
  (void)hadal_model_close(model, NULL);
  return code == HADAL_CODE_OK ? 0 : fail("the answer", &failure);
}
