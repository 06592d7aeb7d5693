// Service: what the server answers to each request: who may ask, what is asked, and by whom it is
// answered.
//
// Stands between the HTTP layer (http_server.h), which knows bytes and clients, and the desk
// (call_desk.h), which runs calls. Bodies are parsed, prompts written and grammars compiled by a
// few threads of its own, so that neither the network nor the engine waits for them. Serves one
// model, and its adapters by their names. Before serve() it says that the model is loading.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine_thread.h"
#include "server/api.h"
#include "server/call_desk.h"
#include "server/http_server.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/model_card.h"
#include "server/request_log.h"
#include "server/task_pool.h"
#include "session/session.h"

namespace hadal::server {

struct ServiceOptions {
  std::string model_name;            ///< what the model is called in the APIs
  std::vector<std::string> aliases;  ///< other names of it
  bool any_model = false;            ///< every name is the model's
  bool vllm_names = false;           ///< in /metrics, beside our own
  bool guard_host = false;  ///< no keys and a loopback address: other hosts' names are refused, so
                            ///< that no web page can call by a name that leads here
  std::vector<std::string> hosts;         ///< names that are let pass then
  std::optional<double> timeout_seconds;  ///< of a call that names none
  double ping_seconds = 10;
  int preparing_threads = 2;
  size_t preparing_most = 256;  ///< requests that wait to be read; more are answered 503
  std::function<void(const RequestRecord& record)> log;  ///< from several threads
  std::function<void(const std::string& words)> note;    ///< for whoever runs the server
};

class Service {
 public:
  explicit Service(ServiceOptions options);
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  // For HttpServer.
  void handle(std::shared_ptr<HttpExchange> exchange);
  std::optional<HttpRefusal> gate(const HttpRequest& head);
  HttpRefusal fault(const HttpRequest& head, int status, const std::string& message) const;

  /// Whose keys are let in; null: nobody needs one.
  void set_keys(std::shared_ptr<const KeyRing> keys);
  /// The model is there. All must outlive the service. `snapshot` tells of the engine.
  struct Backend {
    Session* session = nullptr;
    TokenSource* source = nullptr;
    std::function<EngineThread::Snapshot()> snapshot;
    std::function<HttpCounts()> http;  ///< may be empty
    ResponseStore* store = nullptr;    ///< null: responses are not kept
    int64_t slots = 1;                 ///< answers that run at once
  };
  void serve(Backend backend);
  /// It has answered once.
  void set_ready();
  /// No new calls: 503. Those that run go on.
  void drain();
  /// Ends what is left. Requests that still come are answered 503.
  void close();
  /// Calls that are read, made ready or running.
  [[nodiscard]] int64_t open_calls() const;

 private:
  /// A request on its way.
  struct Asked {
    std::shared_ptr<HttpExchange> exchange;
    const Route* route = nullptr;
    ApiKind api = ApiKind::kOpenAi;  ///< whose forms the answer has
    std::string id;                  ///< of the path
    std::chrono::steady_clock::time_point arrived;
    std::shared_ptr<const KeyRing> ring;
    const ApiKey* key = nullptr;              ///< in `ring`
    HttpHeaders headers;                      ///< of the response
    std::shared_ptr<RateLimiter::Slot> slot;  ///< of the key's allowance, until it is over
    std::string model;                        ///< what answers
    std::vector<std::string> ignored;

    [[nodiscard]] std::string key_name() const { return key ? key->name : std::string(); }
  };
  using Body = std::string;

  void dispatch(Asked asked);
  void answer_health(Asked& asked);
  void prepare(Asked& asked);
  bool admit(Asked& asked);
  Status prepare_call(Asked& asked, const Api& api);
  Result<Body> look_up(const Asked& asked);
  Result<Body> stored(const Asked& asked) const;
  [[nodiscard]] ApiContext context_of(const Asked& asked) const;
  [[nodiscard]] Status check_chats() const;
  Result<std::vector<TokenId>> chat_tokens(ChatRequest chat) const;
  Result<Body> count_tokens(const Asked& asked, const Json& body) const;
  Result<Body> tokenize(const Json& body) const;
  Result<Body> detokenize(const Json& body) const;
  Body models_body(const Asked& asked) const;
  Result<Body> model_body(const Asked& asked, const std::string& id) const;
  Result<std::string> model_of(const Asked& asked, const ApiCall& call) const;
  void adopt(const Asked& asked, Call& call, const std::string& named) const;
  DeskCall desk_call(Asked& asked, std::unique_ptr<RunningCall> call, std::unique_ptr<Reply> reply,
                     bool stream);
  void answer(Asked& asked, int status, std::string type, Body body, std::string error = {});
  void answer_error(Asked& asked, const ApiError& error);
  void log(const Asked& asked, const CallRecord& record) const;
  [[nodiscard]] std::shared_ptr<const KeyRing> keys() const;
  [[nodiscard]] int64_t retry_after() const;

  const ServiceOptions options_;
  mutable std::mutex mutex_;
  std::shared_ptr<const KeyRing> keys_;
  RateLimiter limiter_;
  // Set by serve(), before `loaded_`:
  Backend backend_;
  ModelCard card_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<CallDesk> desk_;
  std::atomic<bool> loaded_ = false, ready_ = false, draining_ = false, closing_ = false;
  std::atomic<int64_t> preparing_ = 0;
  std::atomic<double> call_seconds_ = 1;  ///< about what a call takes, for Retry-After
  TaskPool pool_;                         ///< ends first
};

}  // namespace hadal::server
