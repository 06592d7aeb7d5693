// Tokens, grammars, adapters and logits of the C library.
#include <algorithm>
#include <future>

#include "api/border.h"
#include "api/core.h"
#include "text/tokenizer/utf8.h"

namespace hadal::api {
namespace {

Result<const Tokenizer*> tokenizer_of(const hadal_model* model) {
  if (!model) return usage_error("model is NULL");
  const Tokenizer* tokenizer = model->core->session().tokenizer();
  if (!tokenizer) return usage_error("the model has no tokenizer");
  return tokenizer;
}

/// Runs `change` on the adapters that there are, and makes the model use what is left of them.
Status change_adapters(hadal_model* model,
                       const std::function<Status(std::vector<NamedAdapter>&)>& change) {
  if (!model) return usage_error("model is NULL");
  Core& core = *model->core;
  if (core.is_teller())
    return usage_error("adapters cannot be changed by a callback of their model");
  const std::unique_lock alone(core.adapters());
  std::vector<NamedAdapter> adapters = core.session().engine().runner().adapters();
  HADAL_TRY(change(adapters));
  return core.engine().between_steps(
      [&](Engine& engine) { return engine.runner().set_adapters(std::move(adapters)); });
}

/// Runs a prompt whose logits are copied as they come, and waits for its end.
Status run_logits(Core& core, std::vector<TokenId> ids, int64_t first, std::span<float> logits) {
  if (core.is_teller()) return usage_error("logits cannot be had by a callback of their model");
  // Who waits here owns it; the engine forgets its listener before the model can be closed.
  auto ended = std::make_shared<std::promise<Status>>();
  Request request;
  request.prompt = std::move(ids);
  request.reuse_prefix = false;  // what is cached has no logits
  request.logits_from = first;
  request.on_logits = [&](int64_t position, std::span<const float> row) {
    const auto at = static_cast<size_t>(position - first) * row.size();
    if (position >= first && at + row.size() <= logits.size())
      std::copy(row.begin(), row.end(), logits.begin() + static_cast<ptrdiff_t>(at));
  };
  HADAL_TRY(core.engine().submit(std::move(request), 1, [ended](int64_t, const TokenEvent& event) {
    if (event.finish == FinishReason::kNone) return;
    ended->set_value(event.error ? Status(*event.error) : Status());
  }));
  return ended->get_future().get();
}

}  // namespace
}  // namespace hadal::api

using namespace hadal;
using namespace hadal::api;

hadal_code hadal_tokenize(const hadal_model* model, const char* text, size_t text_bytes,
                          uint32_t flags, int32_t* ids, size_t room, size_t* count,
                          hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    HADAL_TRY(const Tokenizer* tokenizer, tokenizer_of(model));
    if (!count) return usage_error("count is NULL");
    if ((!text && text_bytes > 0) || (!ids && room > 0))
      return usage_error("text or ids is NULL, and has a size");
    if ((flags & ~(HADAL_TOKENIZE_BOS | HADAL_TOKENIZE_PLAIN)) != 0)
      return usage_error("flags: has unknown bits");
    const std::string_view given(text_bytes > 0 ? text : "", text_bytes);
    if (!utf8_valid(given)) return usage_error("text is not UTF-8");
    const auto encoded =
        tokenizer->encode(given, {.added_tokens = (flags & HADAL_TOKENIZE_PLAIN) == 0,
                                  .bos = (flags & HADAL_TOKENIZE_BOS) != 0});
    *count = encoded.size();
    std::copy_n(encoded.begin(), std::min(room, encoded.size()), ids);
    return {};
  });
}

hadal_code hadal_detokenize(const hadal_model* model, const int32_t* ids, size_t id_count,
                            uint32_t flags, char* text, size_t room, size_t* bytes,
                            hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    HADAL_TRY(const Tokenizer* tokenizer, tokenizer_of(model));
    if (!bytes) return usage_error("bytes is NULL");
    if (!text && room > 0) return usage_error("text is NULL, and has a size");
    if ((flags & ~HADAL_DETOKENIZE_SKIP_SPECIAL) != 0)
      return usage_error("flags: has unknown bits");
    std::string decoded;
    if (id_count > 0) {
      HADAL_TRY(const std::vector<TokenId> known,
                read_ids(ids, id_count, model->core->session().engine().spec().vocab_size));
      decoded = tokenizer->decode(known, (flags & HADAL_DETOKENIZE_SKIP_SPECIAL) != 0);
    }
    *bytes = decoded.size();
    std::copy_n(decoded.begin(), std::min(room, decoded.size()), text);
    return {};
  });
}

hadal_code hadal_grammar_compile(const hadal_model* model, uint32_t shape, const char* text,
                                 hadal_grammar** out, hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!out) return usage_error("out is NULL");
    *out = nullptr;
    if (!model) return usage_error("model is NULL");
    HADAL_TRY(check_enum(shape, HADAL_SHAPE_EBNF, "shape"));
    if (shape == HADAL_SHAPE_TEXT) return usage_error("shape: text needs no grammar");
    auto grammar = std::make_unique<hadal_grammar>();
    grammar->core = model->core;
    grammar->shape.kind = static_cast<AnswerShape::Kind>(shape - 1);
    HADAL_TRY(grammar->shape.text, read_text(text, "text"));
    constexpr GrammarKind kKinds[] = {GrammarKind::kJsonObject, GrammarKind::kJsonSchema,
                                      GrammarKind::kRegex, GrammarKind::kEbnf};
    HADAL_TRY(grammar->compiled, model->core->session().compile(
                                     {.kind = kKinds[shape - 1], .text = grammar->shape.text}));
    *out = grammar.release();
    return {};
  });
}

void hadal_grammar_free(hadal_grammar* grammar) { delete grammar; }

hadal_code hadal_adapter_load(hadal_model* model, const char* name, const char* folder,
                              hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    HADAL_TRY(const std::string called, read_text(name, "name"));
    HADAL_TRY(const std::string lies, read_text(folder, "folder"));
    if (called.empty() || lies.empty()) return usage_error("name or folder is missing or empty");
    return change_adapters(model, [&](std::vector<NamedAdapter>& adapters) -> Status {
      const NamedAdapter fresh{.name = called, .folder = lies};
      const auto place = std::find_if(adapters.begin(), adapters.end(),
                                      [](const NamedAdapter& a) { return a.empty(); });
      if (place != adapters.end())
        *place = fresh;
      else
        adapters.push_back(fresh);
      return {};
    });
  });
}

hadal_code hadal_adapter_unload(hadal_model* model, const char* name, hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    HADAL_TRY(const std::string called, read_text(name, "name"));
    return change_adapters(model, [&](std::vector<NamedAdapter>& adapters) -> Status {
      HADAL_TRY(const int32_t number,
                model->core->session().engine().runner().adapter_number(called));
      if (model->core->adapter_in_use(called))
        return Error{.code = ErrorCode::kBusy,
                     .message = "adapter " + called + " is in use: wait for its answers"};
      adapters[static_cast<size_t>(number)] = {};
      return {};
    });
  });
}

hadal_code hadal_logits(hadal_model* model, const int32_t* ids, size_t id_count, size_t first,
                        float* logits, size_t room, hadal_failure* failure) {
  return guarded(failure, [&]() -> Status {
    if (!model) return usage_error("model is NULL");
    const Engine& engine = model->core->session().engine();
    const int64_t vocabulary = engine.spec().vocab_size;
    HADAL_TRY(std::vector<TokenId> known, read_ids(ids, id_count, vocabulary));
    if (static_cast<int64_t>(id_count) > engine.longest())
      return memory_error("the prompt has " + std::to_string(id_count) +
                          " tokens, the context holds " + std::to_string(engine.longest()));
    if (first >= id_count)
      return usage_error("first is " + std::to_string(first) + ", less than the " +
                         std::to_string(id_count) + " ids is expected");
    const size_t needed = (id_count - first) * static_cast<size_t>(vocabulary);
    if (!logits || room < needed)
      return usage_error("logits: room for " + std::to_string(needed) +
                         " floats is expected, there is for " + std::to_string(room));
    return run_logits(*model->core, std::move(known), static_cast<int64_t>(first),
                      {logits, needed});
  });
}
