// Hadal as a library, for C++20: a thin cover of hadal.h that owns what it opens.
//
// Header only: what crosses into the library is C, so program and library may be built by different
// compilers. What fails throws hadal::lib::Failure, whose code() is a hadal_code. Nothing is thrown
// through the library: what a callback throws cancels its answer, and comes out of wait(). Handles
// are move-only; hadal.h says which threads may call what, and how long things live.
#ifndef HADAL_HADAL_HPP
#define HADAL_HADAL_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hadal/hadal.h"

namespace hadal::lib {

/// What a function of the library returned, with its text.
class Failure : public std::runtime_error {
 public:
  Failure(hadal_code code, const std::string& text) : std::runtime_error(text), code_(code) {}
  [[nodiscard]] hadal_code code() const noexcept { return code_; }

 private:
  hadal_code code_;
};

/// A zeroed struct of the library that knows its size.
template <typename T>
T make() {
  T value{};
  value.size = sizeof(T);
  return value;
}

namespace detail {

/// Calls `function(failure)` and throws what it reports.
template <typename Function>
void check(Function&& function) {
  hadal_failure failure = make<hadal_failure>();
  const hadal_code code = function(&failure);
  if (code != HADAL_CODE_OK) throw Failure(code, failure.text);
}

inline std::string text(const char* from) { return from ? from : ""; }

template <auto kFree>
struct Freed {
  template <typename T>
  void operator()(T* handle) const {
    kFree(handle);
  }
};

inline void close_model(hadal_model* model) { (void)hadal_model_close(model, nullptr); }

}  // namespace detail

struct ToolCall {
  std::string id, name, arguments;
};

struct Message {
  std::string role, content;
  std::string reasoning = {}, name = {}, tool_call_id = {};
  std::vector<ToolCall> tool_calls = {};
  bool prefix = false;
};

/// What became certain of one choice of an answer.
struct Event {
  int choice = -1;  ///< -1: nothing came
  std::string text = {}, reasoning = {};
  std::vector<ToolCall> tool_calls = {};
  hadal_end end = HADAL_END_NONE;
  bool over = false;  ///< nothing follows
};

/// One whole answer.
struct Result {
  hadal_end end = HADAL_END_NONE;
  std::string text, reasoning;
  std::vector<ToolCall> tool_calls;
  std::vector<int32_t> ids;
  hadal_usage usage{};
};

namespace detail {

inline std::vector<ToolCall> calls(const hadal_tool_call* first, size_t count) {
  std::vector<ToolCall> list;
  const auto* at = reinterpret_cast<const char*>(first);
  for (size_t i = 0; i < count; ++i) {
    const auto* call = reinterpret_cast<const hadal_tool_call*>(at);
    list.push_back({text(call->id), text(call->name), text(call->arguments)});
    at += call->size;
  }
  return list;
}

inline Event event(const hadal_event& from) {
  return {.choice = from.choice,
          .text = text(from.text),
          .reasoning = text(from.reasoning),
          .tool_calls = calls(from.tool_calls, from.tool_call_count),
          .end = static_cast<hadal_end>(from.end),
          .over = from.over != 0};
}

/// Messages as C sees them; the messages must outlive it.
class MessageList {
 public:
  explicit MessageList(std::span<const Message> messages) {
    calls_.reserve(messages.size());
    for (const Message& m : messages) {
      std::vector<hadal_tool_call>& calls = calls_.emplace_back();
      for (const ToolCall& call : m.tool_calls) {
        hadal_tool_call c = make<hadal_tool_call>();
        c.id = call.id.c_str();
        c.name = call.name.c_str();
        c.arguments = call.arguments.c_str();
        calls.push_back(c);
      }
      hadal_message message = make<hadal_message>();
      message.prefix = m.prefix ? 1 : 0;
      message.role = m.role.c_str();
      message.content = m.content.c_str();
      message.reasoning = m.reasoning.c_str();
      message.name = m.name.c_str();
      message.tool_call_id = m.tool_call_id.c_str();
      message.tool_calls = calls.data();
      message.tool_call_count = calls.size();
      messages_.push_back(message);
    }
  }
  [[nodiscard]] const std::vector<hadal_message>& get() const { return messages_; }

 private:
  std::vector<std::vector<hadal_tool_call>> calls_;
  std::vector<hadal_message> messages_;
};

}  // namespace detail

/// Called by a thread of the library; false cancels the answer, as what it throws does.
using OnEvent = std::function<bool(const Event& event)>;
/// Called by a thread of the library: Answer::next has something. Must not throw.
using OnReady = std::function<void()>;

/// Compiled for one model: hadal_grammar.
class Grammar {
 public:
  explicit Grammar(hadal_grammar* handle) : handle_(handle) {}
  [[nodiscard]] const hadal_grammar* get() const { return handle_.get(); }

 private:
  std::unique_ptr<hadal_grammar, detail::Freed<&hadal_grammar_free>> handle_;
};

/// One request and its choices: hadal_answer. Destroying it cancels it.
class Answer {
 public:
  /// The next event; none in the given time. `seconds` < 0: as long as it takes. Where all is over,
  /// an event without a choice. Rethrows what on_event threw.
  std::optional<Event> next(double seconds = -1) {
    hadal_event event = make<hadal_event>();
    detail::check(
        [&](hadal_failure* f) { return hadal_answer_next(handle_.get(), seconds, &event, f); });
    if (event.choice < 0 && event.over == 0) return std::nullopt;
    return detail::event(event);
  }
  /// Waits for the end of all choices; false: it did not come in that time. Rethrows what the
  /// callback threw.
  bool wait(double seconds = -1) {
    uint32_t over = 0;
    detail::check(
        [&](hadal_failure* f) { return hadal_answer_wait(handle_.get(), seconds, &over, f); });
    if (over != 0 && hooks_->thrown) std::rethrow_exception(hooks_->thrown);
    return over != 0;
  }
  void cancel() { hadal_answer_cancel(handle_.get()); }
  /// Of a choice that has ended; throws the error of one that failed.
  [[nodiscard]] Result result(int choice = 0) const {
    hadal_result r = make<hadal_result>();
    detail::check(
        [&](hadal_failure* f) { return hadal_answer_result(handle_.get(), choice, &r, f); });
    return {.end = static_cast<hadal_end>(r.end),
            .text = detail::text(r.text),
            .reasoning = detail::text(r.reasoning),
            .tool_calls = detail::calls(r.tool_calls, r.tool_call_count),
            .ids = std::vector<int32_t>(r.ids, r.ids + r.id_count),
            .usage = r.usage};
  }
  [[nodiscard]] const hadal_answer* get() const { return handle_.get(); }

 private:
  friend class Model;
  struct Hooks {
    OnEvent on_event = {};
    OnReady on_ready = {};
    std::exception_ptr thrown = {};
  };
  Answer() = default;
  static int32_t call_event(void* context, const hadal_event* event) {
    auto* hooks = static_cast<Hooks*>(context);
    if (hooks->thrown) return 1;
    try {
      return hooks->on_event(detail::event(*event)) ? 0 : 1;
    } catch (...) {
      hooks->thrown = std::current_exception();
      return 1;
    }
  }
  static void call_ready(void* context) noexcept { static_cast<Hooks*>(context)->on_ready(); }
  hadal_listener listen(OnEvent on_event, OnReady on_ready) {
    hooks_->on_event = std::move(on_event);
    hooks_->on_ready = std::move(on_ready);
    hadal_listener listener = make<hadal_listener>();
    listener.context = hooks_.get();
    if (hooks_->on_event) listener.on_event = &call_event;
    if (hooks_->on_ready) listener.on_ready = &call_ready;
    return listener;
  }
  // The handle goes first: no callback runs when it is freed.
  std::unique_ptr<Hooks> hooks_ = std::make_unique<Hooks>();
  std::unique_ptr<hadal_answer, detail::Freed<&hadal_answer_free>> handle_;
};

/// Messages that outlive the program: hadal_conversation.
class Conversation {
 public:
  Conversation() {
    detail::check([&](hadal_failure* f) {
      hadal_conversation* handle = nullptr;
      const hadal_code code = hadal_conversation_create(&handle, f);
      handle_.reset(handle);
      return code;
    });
  }
  static Conversation load(const std::string& file) {
    Conversation conversation;
    detail::check([&](hadal_failure* f) {
      hadal_conversation* handle = nullptr;
      const hadal_code code = hadal_conversation_load(file.c_str(), &handle, f);
      conversation.handle_.reset(handle);
      return code;
    });
    return conversation;
  }
  void save(const std::string& file) const {
    detail::check(
        [&](hadal_failure* f) { return hadal_conversation_save(handle_.get(), file.c_str(), f); });
  }
  void add(const Message& message) {
    const detail::MessageList list({&message, 1});
    detail::check([&](hadal_failure* f) {
      return hadal_conversation_add(handle_.get(), list.get().data(), f);
    });
  }
  void add(const Answer& answer, int choice = 0) {
    detail::check([&](hadal_failure* f) {
      return hadal_conversation_add_answer(handle_.get(), answer.get(), choice, f);
    });
  }
  void undo() {
    detail::check([&](hadal_failure* f) { return hadal_conversation_undo(handle_.get(), f); });
  }
  [[nodiscard]] size_t size() const { return hadal_conversation_count(handle_.get()); }
  [[nodiscard]] Message operator[](size_t index) const {
    hadal_message m = make<hadal_message>();
    detail::check(
        [&](hadal_failure* f) { return hadal_conversation_get(handle_.get(), index, &m, f); });
    return {.role = detail::text(m.role),
            .content = detail::text(m.content),
            .reasoning = detail::text(m.reasoning),
            .name = detail::text(m.name),
            .tool_call_id = detail::text(m.tool_call_id),
            .tool_calls = detail::calls(m.tool_calls, m.tool_call_count),
            .prefix = m.prefix != 0};
  }
  [[nodiscard]] const hadal_conversation* get() const { return handle_.get(); }

 private:
  std::unique_ptr<hadal_conversation, detail::Freed<&hadal_conversation_free>> handle_;
};

/// A loaded model: hadal_model. Answers may outlive it; they end with it.
class Model {
 public:
  using Options = hadal_model_options;
  using AnswerOptions = hadal_answer_options;

  explicit Model(const std::string& path, const Options& options = make<Options>()) {
    hadal_source source = make<hadal_source>();
    source.path = path.c_str();
    open(source, options);
  }
  /// From a descriptor or from memory, which must stay as it is.
  explicit Model(const hadal_source& source, const Options& options = make<Options>()) {
    open(source, options);
  }
  static hadal_plan plan(const std::string& path, const Options& options = make<Options>(),
                         bool measure = false) {
    hadal_source source = make<hadal_source>();
    source.path = path.c_str();
    hadal_plan plan = make<hadal_plan>();
    detail::check([&](hadal_failure* f) {
      return hadal_model_plan(&source, &options, measure ? 1 : 0, &plan, f);
    });
    return plan;
  }

  /// Its texts belong to the model.
  [[nodiscard]] hadal_model_info info() const {
    hadal_model_info info = make<hadal_model_info>();
    detail::check([&](hadal_failure* f) { return hadal_model_get_info(handle_.get(), &info, f); });
    return info;
  }
  [[nodiscard]] hadal_counts counts() const {
    hadal_counts counts = make<hadal_counts>();
    detail::check(
        [&](hadal_failure* f) { return hadal_model_get_counts(handle_.get(), &counts, f); });
    return counts;
  }
  [[nodiscard]] std::vector<int32_t> tokenize(std::string_view text, uint32_t flags = 0) const {
    std::vector<int32_t> ids(text.size() + 1);  // a token has a byte at least, but for BOS
    size_t count = 0;
    for (bool whole = false; !whole; ids.resize(count)) {
      detail::check([&](hadal_failure* f) {
        return hadal_tokenize(handle_.get(), text.data(), text.size(), flags, ids.data(),
                              ids.size(), &count, f);
      });
      whole = count <= ids.size();
    }
    return ids;
  }
  [[nodiscard]] std::string detokenize(std::span<const int32_t> ids, uint32_t flags = 0) const {
    std::string text(ids.size() * 8 + 16, '\0');
    size_t bytes = 0;
    for (bool whole = false; !whole; text.resize(bytes)) {
      detail::check([&](hadal_failure* f) {
        return hadal_detokenize(handle_.get(), ids.data(), ids.size(), flags, text.data(),
                                text.size(), &bytes, f);
      });
      whole = bytes <= text.size();
    }
    return text;
  }
  [[nodiscard]] Grammar grammar(hadal_shape shape, const std::string& text = {}) const {
    hadal_grammar* handle = nullptr;
    detail::check([&](hadal_failure* f) {
      return hadal_grammar_compile(handle_.get(), shape, text.c_str(), &handle, f);
    });
    return Grammar(handle);
  }
  void load_adapter(const std::string& name, const std::string& folder) {
    detail::check([&](hadal_failure* f) {
      return hadal_adapter_load(handle_.get(), name.c_str(), folder.c_str(), f);
    });
  }
  void unload_adapter(const std::string& name) {
    detail::check(
        [&](hadal_failure* f) { return hadal_adapter_unload(handle_.get(), name.c_str(), f); });
  }

  /// `chat`: what it says beside messages is kept. At most one of the functions.
  Answer chat(std::span<const Message> messages,
              const AnswerOptions& options = make<AnswerOptions>(), OnEvent on_event = {},
              OnReady on_ready = {}, hadal_chat chat = make<hadal_chat>()) {
    const detail::MessageList list(messages);
    chat.messages = list.get().data();
    chat.message_count = list.get().size();
    Answer answer;
    const hadal_listener listener = answer.listen(std::move(on_event), std::move(on_ready));
    hadal_answer* handle = nullptr;
    detail::check([&](hadal_failure* f) {
      return hadal_chat_start(handle_.get(), &chat, &options, &listener, &handle, f);
    });
    answer.handle_.reset(handle);
    return answer;
  }
  Answer chat(const Conversation& conversation,
              const AnswerOptions& options = make<AnswerOptions>(), OnEvent on_event = {},
              OnReady on_ready = {}) {
    hadal_chat request = make<hadal_chat>();
    request.conversation = conversation.get();
    return chat(std::span<const Message>(), options, std::move(on_event), std::move(on_ready),
                request);
  }
  Answer generate(const std::string& text, const AnswerOptions& options = make<AnswerOptions>(),
                  OnEvent on_event = {}, OnReady on_ready = {}) {
    hadal_prompt prompt = make<hadal_prompt>();
    prompt.text = text.c_str();
    return generate(prompt, options, std::move(on_event), std::move(on_ready));
  }
  Answer generate(std::span<const int32_t> ids,
                  const AnswerOptions& options = make<AnswerOptions>(), OnEvent on_event = {},
                  OnReady on_ready = {}) {
    hadal_prompt prompt = make<hadal_prompt>();
    prompt.ids = ids.data();
    prompt.id_count = ids.size();
    return generate(prompt, options, std::move(on_event), std::move(on_ready));
  }
  /// [ids - first, vocabulary]
  [[nodiscard]] std::vector<float> logits(std::span<const int32_t> ids, size_t first = 0) {
    const size_t rows = ids.size() > first ? ids.size() - first : 0;
    std::vector<float> out(rows * static_cast<size_t>(info().vocabulary));
    detail::check([&](hadal_failure* f) {
      return hadal_logits(handle_.get(), ids.data(), ids.size(), first, out.data(), out.size(), f);
    });
    return out;
  }
  [[nodiscard]] hadal_model* get() const { return handle_.get(); }

 private:
  void open(const hadal_source& source, const Options& options) {
    hadal_model* handle = nullptr;
    detail::check(
        [&](hadal_failure* f) { return hadal_model_open(&source, &options, &handle, f); });
    handle_.reset(handle);
  }
  Answer generate(const hadal_prompt& prompt, const AnswerOptions& options, OnEvent on_event,
                  OnReady on_ready) {
    Answer answer;
    const hadal_listener listener = answer.listen(std::move(on_event), std::move(on_ready));
    hadal_answer* handle = nullptr;
    detail::check([&](hadal_failure* f) {
      return hadal_generate_start(handle_.get(), &prompt, &options, &listener, &handle, f);
    });
    answer.handle_.reset(handle);
    return answer;
  }
  std::unique_ptr<hadal_model, detail::Freed<&detail::close_model>> handle_;
};

}  // namespace hadal::lib
#endif
