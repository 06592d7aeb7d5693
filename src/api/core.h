// Core: a loaded model behind the C library: its session, the engine's thread, and the thread that
// tells answers on.
//
// The engine's thread only leaves its events here; text, thought and calls are put together by the
// teller, which also calls the listeners: a slow one holds up other answers' texts, never the
// engine. Answers outlive a model that is closed: what they refer to then is an empty core. Called
// by the entries of this folder.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine_thread.h"
#include "hadal/hadal.h"
#include "session/session.h"

namespace hadal::api {

class Core;

/// What a caller sees of one of an answer's choices.
struct Choice {
  OutputDelta pending = {};  ///< certain, and not taken by hadal_answer_next
  bool ended = false, end_told = false;
  uint32_t end = HADAL_END_NONE;
  std::optional<Error> error = {};
  Answer answer = {};  ///< once it ended
  // The answer's lists, as C sees them.
  std::vector<hadal_tool_call> calls = {};
  std::vector<hadal_token> tokens = {};
  std::vector<std::vector<hadal_logprob>> top = {};

  [[nodiscard]] bool has_news() const;
};

/// An answer, as its handle, the engine's listener and the teller share it.
struct AnswerState {
  std::shared_ptr<Core> core;
  hadal_listener listener{};
  std::string adapter = {};  ///< that it uses
  std::atomic<bool> cancel_asked{false};
  std::atomic<bool> lost{false};  ///< there was no memory to leave an event

  std::mutex mutex;  ///< of what follows
  std::condition_variable changed = {};
  std::vector<Choice> choices = {};
  bool over = false;  ///< all choices have ended
  bool told = false;  ///< and its listener has heard so
  EngineThread::Ticket ticket = {};
  std::vector<AnswerBuilder> builders = {};  ///< until it is over

  std::mutex calling;     ///< held while its listener runs
  bool detached = false;  ///< under `calling`: no listener any more
};

class Core : public std::enable_shared_from_this<Core> {
 public:
  explicit Core(std::unique_ptr<Session> session, bool keeps_pages);
  /// The end of a core that was not closed: as close().
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  [[nodiscard]] Session& session() { return *session_; }
  [[nodiscard]] EngineThread& engine() { return *engine_; }
  /// That of the answers that begin now; it stays readable as long as the core.
  const char* fingerprint();
  /// Of preparing and submitting, shared; of changing the adapters, alone.
  [[nodiscard]] std::shared_mutex& adapters() { return adapters_; }
  [[nodiscard]] bool is_teller() const { return std::this_thread::get_id() == teller_.get_id(); }

  /// Begins what was prepared.
  Result<std::shared_ptr<AnswerState>> start(PreparedRequest prepared, std::string adapter,
                                             const hadal_listener& listener);
  /// The flags of some answers say something.
  void look() noexcept;
  [[nodiscard]] bool adapter_in_use(const std::string& name);
  /// Ends all answers, then the threads, then frees the model. Not by the teller.
  void close();

 private:
  struct Item {
    std::shared_ptr<AnswerState> answer;
    int64_t sample;
    TokenEvent event;
  };
  void tell_all();
  void handle(const Item& item);
  void heed_flags();
  void stop(AnswerState& answer, const std::optional<Error>& error);
  static void keep(AnswerState& answer, size_t sample, const OutputDelta& delta);
  void tell(AnswerState& answer, int64_t sample, const OutputDelta& delta);
  void call(AnswerState& answer, const hadal_event& event);
  void end_choice(AnswerState& answer, size_t sample, OutputDelta& delta);
  void forget(const std::shared_ptr<AnswerState>& answer);

  std::unique_ptr<Session> session_;
  const bool keeps_pages_;
  std::shared_mutex adapters_;
  std::mutex mutex_;  ///< of what follows
  std::condition_variable arrived_;
  std::vector<Item> items_;
  std::set<std::shared_ptr<AnswerState>> live_;
  std::set<std::string> fingerprints_;  ///< that were told
  bool attention_ = false, stop_ = false;
  std::unique_ptr<EngineThread> engine_;
  std::thread teller_;
};

}  // namespace hadal::api

// The handles.
struct hadal_model {
  std::shared_ptr<hadal::api::Core> core;
  std::string family, description, tokenizer, chat_format, chip;
};

struct hadal_answer {
  std::shared_ptr<hadal::api::AnswerState> state;
  hadal::OutputDelta taken;  ///< whose texts the last event of hadal_answer_next shows
  std::vector<hadal_tool_call> calls;
};

struct hadal_grammar {
  std::weak_ptr<hadal::api::Core> core;
  std::shared_ptr<const hadal::CompiledGrammar> compiled;
  hadal::AnswerShape shape;
};

namespace hadal::api {

/// Views of calls, valid as long as they are.
std::vector<hadal_tool_call> views_of(const std::vector<ToolCall>& calls);
/// Fills an event.
hadal_event event_of(int32_t choice, const OutputDelta& delta,
                     const std::vector<hadal_tool_call>& calls);
/// Begins an answer for a model, which is not null. answer.cc
Result<hadal_answer*> start_answer(hadal_model& model, PreparedRequest prepared,
                                   std::string adapter, const hadal_listener* listener);
/// The options of an answer, read and checked against the limits. options.cc
Result<AnswerOptions> read_answer_options(Core& core, const hadal_answer_options* given,
                                          ChatRequest* chat);
/// A message, read and checked. options.cc
Result<ChatMessage> read_message(const hadal_message& given, const std::string& name);
/// Those of the list.
Result<std::vector<ChatMessage>> read_messages(const hadal_message* first, size_t count);
/// Ids, each within the vocabulary, at least one.
Result<std::vector<TokenId>> read_ids(const int32_t* ids, size_t count, int64_t vocabulary);
/// The messages of a conversation. conversation.cc
const std::vector<ChatMessage>& messages_of(const hadal_conversation& conversation);

}  // namespace hadal::api
