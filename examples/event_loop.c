/* Inside a program with an event loop of its own, as one with windows has: the loop never waits for
 * the model. It sleeps in poll(); the library's thread wakes it by an eventfd, and the loop takes
 * what has come, without waiting. A timer ticks meanwhile, as windows would be drawn.
 *
 *   event_loop MODEL TEXT */
#include <hadal/hadal.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* On a thread of the library's: only wakes the loop. */
static void wake(void* context) {
  const uint64_t one = 1;
  if (write(*(int*)context, &one, sizeof one) < 0) return; /* it is awake already */
}

/* Takes all that has come; 1 when the answer is over. */
static int take(hadal_answer* answer, hadal_failure* failure) {
  hadal_event event = {.size = sizeof event};
  do {
    if (hadal_answer_next(answer, 0, &event, failure) != HADAL_CODE_OK) return 1;
    fputs(event.text, stdout);
  } while (event.choice >= 0 && !event.over);
  fflush(stdout);
  return event.over != 0;
}

static int run_loop(hadal_answer* answer, int ready, hadal_failure* failure) {
  const struct itimerspec tick = {.it_interval = {.tv_nsec = 20000000},
                                  .it_value = {.tv_nsec = 20000000}};
  const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  timerfd_settime(timer, 0, &tick, NULL);
  struct pollfd watched[2] = {{.fd = ready, .events = POLLIN}, {.fd = timer, .events = POLLIN}};
  int over = 0, ticks = 0;
  while (!over) {
    if (poll(watched, 2, -1) < 0) break;
    uint64_t times = 0;
    if (watched[1].revents && read(timer, &times, sizeof times) > 0) ticks += (int)times;
    if (watched[0].revents && read(ready, &times, sizeof times) > 0) over = take(answer, failure);
  }
  close(timer);
  return ticks;
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  hadal_failure failure = {.size = sizeof failure};
  hadal_source source = {.size = sizeof source, .path = argv[1]};
  hadal_model* model = NULL;
  if (hadal_model_open(&source, NULL, &model, &failure) != HADAL_CODE_OK) {
    fprintf(stderr, "%s\n", failure.text);
    return 1;
  }
  int ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  hadal_listener listener = {.size = sizeof listener, .on_ready = wake, .context = &ready};
  hadal_prompt prompt = {.size = sizeof prompt, .text = argv[2]};
  hadal_answer_options wishes = {.size = sizeof wishes, .max_new_tokens = 64};
  hadal_answer* answer = NULL;
  hadal_code code = hadal_generate_start(model, &prompt, &wishes, &listener, &answer, &failure);
  if (code == HADAL_CODE_OK) {
    const int ticks = run_loop(answer, ready, &failure);
    hadal_result result = {.size = sizeof result};
    code = hadal_answer_result(answer, 0, &result, &failure);
    if (code == HADAL_CODE_OK)
      printf("\n[%lld tokens, %d ticks meanwhile]\n", (long long)result.usage.new_tokens, ticks);
  }
  if (code != HADAL_CODE_OK) fprintf(stderr, "%s\n", failure.text);
  hadal_answer_free(answer);
  (void)hadal_model_close(model, NULL);
  close(ready);
  return code == HADAL_CODE_OK ? 0 : 1;
}
