#include "serve_flags.h"

namespace hadal::app {
void ServeFlags::declare(CLI::App& command, double default_step_ms) {
  step_ms = default_step_ms;
  model.declare(command);
  model.declare_draft(command);
  command.add_option("--chat-format", chat_format, chat_format_help())
      ->envname("HADAL_CHAT_FORMAT");
  const char* group = "Many requests";
  command
      .add_option("--parallel", parallel,
                  "requests that run at once; others wait for a place. Each is answered as if it "
                  "were alone")
      ->check(CLI::Range(int64_t{1}, int64_t{1024}))
      ->capture_default_str()
      ->group(group);
  command
      .add_option(
          "--step-ms", step_ms,
          "prompts are cut so that a step takes no longer: tokens come evenly, new requests "
          "start soon; 0: whole prompts, the fastest where nobody waits")
      ->check(CLI::Range(0.0, 60000.0))
      ->capture_default_str()
      ->group(group);
  model.declare_kv_file(command, group);
  command
      .add_flag("--no-prompt-lookup", no_prompt_lookup,
                "do not guess tokens from the text so far (guesses change no answer; they are left "
                "out by themselves where they do not pay)")
      ->group(group);
}

SessionOptions ServeFlags::session(int64_t limit) const {
  SessionOptions options = model.session(limit);
  options.chat_format = chat_format;
  options.runner.max_sequences = parallel;
  options.runner.max_logit_rows = parallel + (no_prompt_lookup ? 0 : kGuessRows);
  options.engine.step_seconds = step_ms / 1000;
  options.fit_cache = !model.cache_tokens;
  options.prompt_lookup = !no_prompt_lookup;
  return options;
}

}  // namespace hadal::app
