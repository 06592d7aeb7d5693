// Models of the C library: opened, planned, described, closed.
#include <algorithm>
#include <filesystem>

#include "api/border.h"
#include "api/core.h"
#include "engine/roofline.h"
#include "session/vocabulary.h"

namespace hadal::api {
namespace {

constexpr int64_t kSequences = 8;
constexpr uint64_t kPageFileBytes = uint64_t{8} << 30;

/// Thrown through the loader by a progress callback that cancels.
struct Cancelled {};

Result<std::unique_ptr<Checkpoint>> open_source(const hadal_source& source,
                                                const OpenOptions& options) {
  const int given =
      (source.path ? 1 : 0) + (source.has_descriptor != 0 ? 1 : 0) + (source.data ? 1 : 0);
  if (given != 1)
    return usage_error("source: one of path, descriptor and data is expected, " +
                       std::to_string(given) + " were given");
  if (source.path) {
    if (*source.path == '\0') return usage_error("source.path is empty");
    return Checkpoint::open(source.path, options);
  }
  HADAL_TRY(std::string name, read_text(source.name, "source.name"));
  if (source.data) {
    if (name.empty()) name = "the model in memory";
    const std::span bytes(static_cast<const std::byte*>(source.data), source.data_bytes);
    HADAL_TRY(MappedFile file, MappedFile::lend(bytes, name));
    return Checkpoint::open(std::move(file), options);
  }
  if (name.empty()) name = "descriptor " + std::to_string(source.descriptor);
  HADAL_TRY(MappedFile file, MappedFile::map(source.descriptor, name));
  return Checkpoint::open(std::move(file), options);
}

Status in_range(int64_t value, int64_t most, const char* name) {
  if (value >= 0 && value <= most) return {};
  return usage_error(std::string(name) + " is " + std::to_string(value) + ", 0 to " +
                     std::to_string(most) + " is expected");
}

/// What options say beside the log and the progress.
Result<SessionOptions> session_options(const hadal_model_options& o) {
  HADAL_TRY(in_range(o.threads, 1024, "threads"));
  HADAL_TRY(in_range(o.context, int64_t{1} << 24, "context"));
  HADAL_TRY(in_range(o.cache_tokens, int64_t{1} << 30, "cache_tokens"));
  HADAL_TRY(in_range(o.max_sequences, 1024, "max_sequences"));
  HADAL_TRY(check_enum(o.cache_type, HADAL_CACHE_F32, "cache_type"));
  HADAL_TRY(check_enum(o.prompt_lookup, HADAL_SWITCH_OFF, "prompt_lookup"));
  if (!(o.step_seconds <= 3600)) return usage_error("step_seconds: at most 3600 is expected");
  SessionOptions s;
  HADAL_TRY(const std::string chip, read_text(o.chip, "chip"));
  if (!chip.empty()) s.runner.device.chip = chip;
  s.runner.device.threads = o.threads;
  HADAL_TRY(s.runner.device.kernels, read_text(o.kernels, "kernels"));
  s.runner.device.exact = o.exact != 0;
  HADAL_TRY(in_range(o.device, 4096, "device"));
  s.runner.device.index = o.device;
  HADAL_TRY(in_range(o.ranks, 64, "ranks"));
  s.runner.rank_threads = std::max(o.ranks, 1);
  HADAL_TRY(s.runner.place, read_text(o.place, "place"));
  s.runner.fallback = o.fallback != 0;
  HADAL_TRY(const std::vector<hadal_chip_setting> settings,
            read_list(o.chip_settings, o.chip_setting_count, limit("tools"), "chip_settings"));
  for (const hadal_chip_setting& given : settings) {
    HADAL_TRY(std::string name, read_text(given.name, "chip_settings[].name"));
    HADAL_TRY(std::string value, read_text(given.value, "chip_settings[].value"));
    s.runner.device.chip_options.emplace_back(std::move(name), std::move(value));
  }
  constexpr DType kTypes[] = {HADAL_F16, HADAL_BF16, HADAL_F32};
  s.runner.kv_cache_dtype = kTypes[o.cache_type];
  s.runner.context = o.context;
  s.runner.cache_tokens = o.cache_tokens;
  s.runner.max_sequences = o.max_sequences > 0 ? o.max_sequences : kSequences;
  s.prompt_lookup = o.prompt_lookup != HADAL_SWITCH_OFF;
  s.runner.max_logit_rows = s.runner.max_sequences + (s.prompt_lookup ? kGuessRows : 0);
  s.engine.step_seconds = o.step_seconds == 0 ? 0.1 : std::max(o.step_seconds, 0.0);
  s.fit_context = o.context == 0 && o.cache_tokens == 0;
  s.fit_cache = o.cache_tokens == 0;
  s.needs_tokenizer = o.ids_only == 0;
  HADAL_TRY(std::string format, read_text(o.chat_format, "chat_format"));
  if (!format.empty()) s.chat_format = std::move(format);
  HADAL_TRY(const std::vector<hadal_adapter_folder> adapters,
            read_list(o.adapters, o.adapter_count, limit("tools"), "adapters"));
  for (const hadal_adapter_folder& given : adapters) {
    HADAL_TRY(std::string name, read_text(given.name, "adapters[].name"));
    HADAL_TRY(const std::string folder, read_text(given.folder, "adapters[].folder"));
    if (name.empty() || folder.empty()) return usage_error("adapters[]: has no name, or no folder");
    s.runner.adapters.push_back({.name = std::move(name), .folder = folder});
  }
  s.runner.more_adapters = o.more_adapters != 0;
  if (o.kv_file)
    s.swap = {.file = o.kv_file,
              .max_bytes = o.kv_file_bytes > 0 ? o.kv_file_bytes : kPageFileBytes};
  return s;
}

/// Lines for the caller's log.
std::function<void(std::string_view)> log_of(const hadal_model_options& o, uint32_t level) {
  if (!o.log) return {};
  return [log = o.log, context = o.log_context, level](std::string_view line) {
    log(context, level, std::string(line).c_str());
  };
}

Result<std::unique_ptr<hadal_model>> open_model(const hadal_source& source,
                                                const hadal_model_options& o) {
  HADAL_TRY(SessionOptions options, session_options(o));
  options.runner.device.log = options.swap.log = options.engine.log =
      log_of(o, HADAL_LEVEL_WARNING);
  HADAL_TRY(const std::string pre, read_text(o.pre_tokenizer, "pre_tokenizer"));
  HADAL_TRY(std::unique_ptr<Checkpoint> checkpoint, open_source(source, {.pre_tokenizer = pre}));
  LoadProgress progress;
  if (o.progress)
    progress = [&o](uint64_t done, uint64_t total) {
      if (o.progress(o.progress_context, done, total) != 0) throw Cancelled{};
    };
  std::unique_ptr<Session> session;
  try {
    HADAL_TRY(session, Session::open(std::move(checkpoint), options, progress));
  } catch (const Cancelled&) {
    return Error{.code = ErrorCode::kInterrupted, .message = "opening was cancelled"};
  }
  if (const auto log = log_of(o, HADAL_LEVEL_INFO)) {
    for (const std::string& note : session->notes()) log(note);
    for (const std::string& note : session->engine().runner().notes()) log(note);
  }
  auto model = std::make_unique<hadal_model>();
  const ModelRunner& runner = session->engine().runner();
  model->family = runner.spec().family;
  model->description = session->checkpoint().description();
  if (session->tokenizer()) model->tokenizer = session->tokenizer()->description();
  if (const auto format = session->chat_format()) model->chat_format = (*format)->name;
  model->chip = std::string(runner.device().chip_name()) + " (kernels " +
                runner.device().info().kernels + ")";
  model->core = std::make_shared<Core>(std::move(session), o.kv_file != nullptr);
  return model;
}

std::string mib(uint64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

Status plan_model(const hadal_source& source, const hadal_model_options& o, bool measure,
                  hadal_plan& plan) {
  HADAL_TRY(SessionOptions options, session_options(o));
  options.runner.device.log = log_of(o, HADAL_LEVEL_WARNING);
  HADAL_TRY(const std::string pre, read_text(o.pre_tokenizer, "pre_tokenizer"));
  HADAL_TRY(const std::unique_ptr<Checkpoint> checkpoint,
            open_source(source, {.pre_tokenizer = pre}));
  options.runner.compressed_vocabulary = [&] { return compressed_vocabulary(*checkpoint); };
  std::vector<std::string> notes;
  HADAL_TRY(const std::unique_ptr<ModelRunner> runner, open_runner(*checkpoint, options, notes));
  const MemoryPlan memory = runner->memory_plan();
  plan.fits = runner->check_memory() ? 1 : 0;
  plan.needed_bytes = memory.needed();
  plan.available_bytes = memory.available;
  plan.weight_bytes = memory.weights;
  plan.mapped_bytes = memory.mapped;
  plan.cache_bytes = memory.cache;
  plan.context = runner->context();
  std::string text = "weights " + mib(memory.weights) + " (" + mib(memory.mapped) +
                     " of them mapped), caches " + mib(memory.cache) + " for a context of " +
                     std::to_string(plan.context) + ", together " + mib(memory.total()) +
                     "; free " + mib(memory.available);
  if (measure) {
    HADAL_TRY(const auto best, measure_roofline(*runner, 0));
    if (best) plan.decode_tokens_per_second = best->decode;
    if (best) plan.prompt_tokens_per_second = best->prompt;
  }
  if (plan.decode_tokens_per_second > 0)
    text += "\nat best " + detail::plain(plan.decode_tokens_per_second, 3) +
            " tokens/s generated, " + detail::plain(plan.prompt_tokens_per_second, 3) +
            " tokens/s of prompt";
  for (const std::string& note : notes) text += "\n" + note;
  if (const Status fits = runner->check_memory(); !fits) text += "\n" + fits.error().message;
  const std::string_view shown = fitting(text, sizeof plan.text - 1);
  std::copy(shown.begin(), shown.end(), plan.text);
  return {};
}

}  // namespace
}  // namespace hadal::api

using namespace hadal;
using namespace hadal::api;

uint32_t hadal_library_abi(void) { return HADAL_LIBRARY_ABI; }
const char* hadal_library_version(void) { return HADAL_VERSION; }

const char* hadal_code_name(int32_t code) {
  switch (code) {
    case HADAL_CODE_OK:
      return "ok";
    case HADAL_CODE_FAILED:
      return "failed";
    case HADAL_CODE_USAGE:
      return "usage";
    case HADAL_CODE_MEMORY:
      return "memory";
    case HADAL_CODE_NOT_FOUND:
      return "not found";
    case HADAL_CODE_BUSY:
      return "busy";
    case HADAL_CODE_INTERNAL:
      return "internal";
    case HADAL_CODE_INTERRUPTED:
      return "interrupted";
    default:
      return "unknown";
  }
}

hadal_code hadal_model_plan(const hadal_source* source, const hadal_model_options* options,
                            uint32_t measure, hadal_plan* out, hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    HADAL_TRY(check_out(out, "out"));
    HADAL_TRY(const hadal_source from, read_struct(source, "source"));
    HADAL_TRY(const hadal_model_options known, read_optional(options, "options"));
    hadal_plan plan{};
    HADAL_TRY(plan_model(from, known, measure != 0, plan));
    write_struct(out, plan);
    return {};
  });
}

hadal_code hadal_model_open(const hadal_source* source, const hadal_model_options* options,
                            hadal_model** out, hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!out) return usage_error("out is NULL");
    *out = nullptr;
    HADAL_TRY(const hadal_source from, read_struct(source, "source"));
    HADAL_TRY(const hadal_model_options known, read_optional(options, "options"));
    HADAL_TRY(std::unique_ptr<hadal_model> model, open_model(from, known));
    *out = model.release();
    return {};
  });
}

hadal_code hadal_model_close(hadal_model* model, hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!model) return {};
    if (model->core->is_teller())
      return usage_error("a model cannot be closed by one of its own callbacks");
    const std::unique_ptr<hadal_model> owned(model);
    owned->core->close();
    return {};
  });
}

hadal_code hadal_model_get_info(const hadal_model* model, hadal_model_info* out,
                                hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!model) return usage_error("model is NULL");
    HADAL_TRY(check_out(out, "out"));
    Session& session = model->core->session();
    const Tokenizer* tokenizer = session.tokenizer();
    hadal_model_info info{};
    info.has_tokenizer = tokenizer ? 1 : 0;
    info.family = model->family.c_str();
    info.description = model->description.c_str();
    info.tokenizer = model->tokenizer.c_str();
    info.chat_format = model->chat_format.c_str();
    info.chip = model->chip.c_str();
    info.fingerprint = model->core->fingerprint();
    info.vocabulary = session.engine().spec().vocab_size;
    info.model_context = session.engine().spec().max_position_embeddings;
    info.context = session.engine().longest();
    info.bos = tokenizer ? tokenizer->bos().value_or(-1) : -1;
    info.eos = tokenizer ? tokenizer->eos().value_or(-1) : -1;
    write_struct(out, info);
    return {};
  });
}

hadal_code hadal_model_get_counts(const hadal_model* model, hadal_counts* out,
                                  hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!model) return usage_error("model is NULL");
    HADAL_TRY(check_out(out, "out"));
    const EngineThread::Snapshot now = model->core->engine().snapshot();
    hadal_counts counts{};
    counts.waiting = now.waiting;
    counts.running = now.running;
    counts.steps = now.counts.steps;
    counts.prompt_tokens = now.counts.prompt_tokens;
    counts.cached_tokens = now.counts.cached_tokens;
    counts.new_tokens = now.counts.new_tokens;
    counts.drafted_tokens = now.counts.drafted_tokens;
    counts.accepted_tokens = now.counts.accepted_tokens;
    counts.cache_used = now.cache_used;
    write_struct(out, counts);
    return {};
  });
}
