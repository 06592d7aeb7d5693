// hadal serve: a model for many users, through the APIs that their clients speak.
#include <arpa/inet.h>
#include <malloc.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <filesystem>
#include <memory>
#include <thread>

#include "base/limits.h"
#include "command.h"
#include "serve_flags.h"
#include "server/http_server.h"
#include "server/scripted_source.h"
#include "server/service.h"
#include "settings.h"

namespace hadal::app {
namespace {

using namespace hadal::server;  // NOLINT: the rooms that this command joins

struct Options {
  ServeFlags serve;
  std::string config;
  std::string name;
  std::vector<std::string> aliases;
  bool any_model = false;
  HttpOptions http;
  std::string key, keys_file;
  bool open_door = false;
  std::vector<std::string> hosts;
  int64_t queue = 0, queue_tokens = 0;
  double timeout = 0, drain_seconds = 30;
  std::string store = "memory";
  int64_t store_responses = 10000;
  double store_gb = 1;
  std::string log = "text", metrics_names = "hadal", script;
};

/// The signals that a server obeys, taken by one thread of its own: every other thread, also those
/// started later, has them blocked.
class Signals {
 public:
  Signals(std::function<void(int signal)> on_stop, std::function<void()> on_reload)
      : on_stop_(std::move(on_stop)), on_reload_(std::move(on_reload)) {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR2}) sigaddset(&set_, signal);
    pthread_sigmask(SIG_BLOCK, &set_, &before_);
    thread_ = std::thread([this] { loop(); });
  }
  ~Signals() {
    over_ = true;
    pthread_kill(thread_.native_handle(), SIGUSR2);
    thread_.join();
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

 private:
  void loop() {
    bool stopped = false;
    for (int signal = 0; sigwait(&set_, &signal) == 0 && !over_;) {
      if (signal == SIGHUP) on_reload_();
      if (signal != SIGINT && signal != SIGTERM) continue;
      if (std::exchange(stopped, true)) {
        print_note("stopped at once, by a second signal");
        _exit(128 + signal);
      }
      on_stop_(signal);
    }
  }
  std::function<void(int signal)> on_stop_;
  std::function<void()> on_reload_;
  sigset_t set_{}, before_{};
  std::atomic<bool> over_ = false;
  std::thread thread_;
};

bool is_loopback(const std::string& host) {
  in_addr address{};
  if (inet_pton(AF_INET, host.c_str(), &address) == 1) return (ntohl(address.s_addr) >> 24) == 127;
  return host == "localhost" || host == "::1";
}

/// One key or a file of them: where both are said, the stronger place counts (a flag beats the
/// environment, which beats the file of settings).
Status choose_keys(Options& o, std::vector<SettingOrigin>& origins) {
  if (o.key.empty() || o.keys_file.empty()) return {};
  const auto strength = [&](std::string_view name) {
    for (const SettingOrigin& origin : origins)
      if (origin.name == name)
        return origin.from == "flag"                                               ? 2
               : origin.from == "HADAL_API_KEY" || origin.from == "HADAL_API_KEYS" ? 1
                                                                                   : 0;
    return 0;
  };
  const int key = strength("api-key"), file = strength("api-keys");
  if (key == file)
    return usage_error("--api-key and --api-keys exclude each other; write the key into the file");
  (key > file ? o.keys_file : o.key).clear();
  std::erase_if(origins, [&](const SettingOrigin& origin) {
    return origin.name == (key > file ? "api-keys" : "api-key");
  });
  return {};
}

Result<std::shared_ptr<const KeyRing>> read_keys(const Options& o) {
  if (o.key.empty() && o.keys_file.empty()) return std::shared_ptr<const KeyRing>();
  HADAL_TRY(KeyRing ring, o.key.empty() ? KeyRing::read(o.keys_file) : KeyRing::of(o.key));
  if (!ring.note().empty()) print_note(ring.note());
  return std::make_shared<const KeyRing>(std::move(ring));
}

class Server {
 public:
  explicit Server(const Options& o) : o_(o) {}

  Status run(Output& out) {
    // Bodies of some MiB go back to the system when they are freed: the C library would raise this
    // threshold with the first of them and keep all later ones (measured: 222 against 43 MiB).
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    Signals signals([this](int signal) { stop(signal); }, [this] { reload(); });
    HADAL_TRY(std::shared_ptr<const KeyRing> keys, read_keys(o_));
    if (!keys && !is_loopback(o_.http.host) && !o_.open_door)
      return usage_error("--host " + o_.http.host +
                         " lets other machines in, and nobody needs a key: give --api-keys FILE or "
                         "--api-key KEY, or say --insecure");
    Service service(service_options(keys == nullptr));
    const Known known(*this, service);
    service.set_keys(std::move(keys));
    HADAL_TRY(std::unique_ptr<HttpServer> http,
              HttpServer::open(
                  http_options(), [&](auto exchange) { service.handle(std::move(exchange)); },
                  [&](const HttpRequest& head) { return service.gate(head); },
                  [&](const HttpRequest& head, int status, const std::string& message) {
                    return service.fault(head, status, message);
                  }));
    print_note("listening on " + url(http->port()) + ", loading the model");
    HADAL_TRY(const std::unique_ptr<Session> session, open());
    const Status served = serve(out, service, http, *session);
    session->engine().save_pages();
    return served;
  }

 private:
  /// Lets nobody ask for what serve() owns any more, once it returns.
  struct Closing {
    Service& service;
    std::unique_ptr<HttpServer>& http;
    ~Closing() {
      service.close();
      http.reset();
    }
  };

  /// Lets SIGHUP find the service while it lives.
  class Known {
   public:
    Known(Server& owner, Service& service) : owner_(owner) { set(&service); }
    ~Known() { set(nullptr); }
    Known(const Known&) = delete;
    Known& operator=(const Known&) = delete;

   private:
    void set(Service* service) {
      const std::scoped_lock lock(owner_.mutex_);
      owner_.service_ = service;
    }
    Server& owner_;
  };

  Result<std::unique_ptr<Session>> open() {
    HADAL_TRY(std::unique_ptr<Checkpoint> checkpoint, o_.serve.model.open());
    HADAL_TRY(const int64_t most, model_context(*checkpoint));
    HADAL_TRY(std::unique_ptr<Session> session,
              Session::open(std::move(checkpoint), o_.serve.session(most), progress_bar()));
    print_notes(session->notes());
    print_notes(session->engine().runner().notes());
    return session;
  }

  Status serve(Output& out, Service& service, std::unique_ptr<HttpServer>& http, Session& session) {
    Engine& engine = session.engine();
    const int64_t context = engine.longest();
    EngineThread thread(
        engine, {.waiting_requests = o_.queue > 0 ? o_.queue : 4 * o_.serve.parallel,
                 .waiting_tokens =
                     o_.queue_tokens > 0 ? o_.queue_tokens : std::max<int64_t>(2 * context, 4096),
                 .places = o_.serve.parallel,
                 .on_end = [this](const Error& why) { end(why); }});
    std::unique_ptr<ScriptedSource> script;
    if (!o_.script.empty()) {
      if (!session.tokenizer()) return usage_error("--script: the model has no tokenizer");
      HADAL_TRY(script, ScriptedSource::read(o_.script, *session.tokenizer()));
    }
    std::unique_ptr<ResponseStore> store;
    if (o_.store != "off") {
      HADAL_TRY(store,
                ResponseStore::open(o_.store == "memory" ? "" : o_.store,
                                    {.most_responses = o_.store_responses,
                                     .most_bytes = static_cast<int64_t>(o_.store_gb * 0x1p30)}));
    }
    TokenSource& source = script ? static_cast<TokenSource&>(*script) : thread;
    service.serve({.session = &session,
                   .source = &source,
                   .snapshot = [&] { return thread.snapshot(); },
                   .http = [server = http.get()] { return server->counts(); },
                   .store = store.get(),
                   .slots = o_.serve.parallel});
    const Closing closing{service, http};
    HADAL_TRY(warm_up(thread, session));
    service.set_ready();
    ready_ = true;
    ready_line(out, http->port(), context);
    Status told = out.flush();
    if (told) {
      wait();
      drain(service, *http);
    }
    if (const auto why = ended()) return *why;
    return told;
  }

  /// A step of one token: what is made at first use is made before anybody waits for it.
  static Status warm_up(EngineThread& thread, const Session& session) {
    Request request;
    request.prompt = {session.tokenizer() && session.tokenizer()->bos()
                          ? *session.tokenizer()->bos()
                          : TokenId{0}};
    request.max_new_tokens = 1;
    request.reuse_prefix = false;
    Status result;
    HADAL_TRY(thread.submit(std::move(request), 1, [&](int64_t, const TokenEvent& event) {
      if (event.error) result = *event.error;
    }));
    thread.drain();
    return result;
  }

  void drain(Service& service, HttpServer& http) {
    print_note(
        fmt::format("stopping: no new requests; {} are answered to their end, for at most "
                    "{:.0f} s (a second signal stops at once)",
                    service.open_calls(), o_.drain_seconds));
    service.drain();
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::duration<double>(o_.drain_seconds);
    while (service.open_calls() > 0 && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    http.close_door();
    const int64_t left = service.open_calls();
    const double seconds =
        std::chrono::duration<double>(end - std::chrono::steady_clock::now()).count();
    const bool read = left > 0 || http.wait_idle(std::max(seconds, 5.0));
    service.close();
    if (left > 0) (void)http.wait_idle(2);  // for those who are told that it stops
    if (!read) return print_note("stopped; some clients had not read their answers to the end");
    print_note(left == 0 ? "stopped; every request was answered"
                         : fmt::format("stopped; {} requests were broken off", left));
  }

  [[nodiscard]] std::string url(uint16_t port) const {
    const bool any = o_.http.host == "0.0.0.0" || o_.http.host == "::";
    const std::string host = any ? "localhost"
                             : o_.http.host.find(':') != std::string::npos
                                 ? "[" + o_.http.host + "]"
                                 : o_.http.host;
    return (o_.http.certificate_file.empty() ? "http://" : "https://") + host + ":" +
           std::to_string(port);
  }

  void ready_line(Output& out, uint16_t port, int64_t context) const {
    const std::string where = url(port);
    const bool key = !o_.key.empty() || !o_.keys_file.empty();
    out.print("ready: {} serves {} ({} answers at once, {} tokens each)\n", where, name(),
              o_.serve.parallel, context);
    out.print(
        "  curl {}{}/v1/chat/completions{} -H 'Content-Type: application/json' -d '{{\"model\": "
        "\"{}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'\n",
        o_.http.certificate_file.empty() ? "" : "-k ", where,
        key ? " -H \"Authorization: Bearer $HADAL_API_KEY\"" : "", name());
  }

  [[nodiscard]] std::string name() const {
    if (!o_.name.empty()) return o_.name;
    std::filesystem::path path(o_.serve.model.path);
    if (!path.has_filename()) path = path.parent_path();
    std::string name = path.filename().string();
    if (name.ends_with(".gguf")) name.resize(name.size() - 5);
    return name.empty() ? "model" : name;
  }

  [[nodiscard]] ServiceOptions service_options(bool no_keys) const {
    ServiceOptions options{.model_name = name(),
                           .aliases = o_.aliases,
                           .any_model = o_.any_model,
                           .vllm_names = o_.metrics_names == "vllm",
                           .guard_host = no_keys && is_loopback(o_.http.host),
                           .hosts = o_.hosts,
                           .timeout_seconds = {},
                           .log = {},
                           .note = [](const std::string& words) { print_note(words); }};
    if (o_.timeout > 0) options.timeout_seconds = o_.timeout;
    if (o_.log != "off")
      options.log = [json = o_.log == "json"](const RequestRecord& record) {
        print_note(json ? json_line(record) : text_line(record));
      };
    return options;
  }

  [[nodiscard]] HttpOptions http_options() const {
    HttpOptions options = o_.http;
    options.body_bytes = limit("body").most;
    return options;
  }

  void stop(int signal) {
    {
      const std::scoped_lock lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
    if (!ready_) {
      print_note("stopped while the model was being loaded");
      _exit(128 + signal);
    }
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stopped_ || ended_; });
  }
  /// No answer can be generated any more: whoever watches over the server may start it again.
  void end(const Error& why) {
    {
      const std::scoped_lock lock(mutex_);
      if (!ended_) ended_ = why;
    }
    changed_.notify_all();
  }
  std::optional<Error> ended() {
    const std::scoped_lock lock(mutex_);
    return ended_;
  }
  void reload() {
    if (o_.keys_file.empty()) return print_note("SIGHUP: there is no file of keys to read again");
    auto keys = read_keys(o_);
    if (!keys) return print_note("SIGHUP: the keys stay as they were: " + keys.error().message);
    {
      const std::scoped_lock lock(mutex_);
      if (service_) service_->set_keys(*keys);
    }
    print_note(fmt::format("SIGHUP: {} keys from {}", (*keys)->keys().size(), o_.keys_file));
  }

  const Options& o_;
  std::mutex mutex_;
  Service* service_ = nullptr;  ///< while it lives
  std::condition_variable changed_;
  bool stopped_ = false;
  std::optional<Error> ended_;
  std::atomic<bool> ready_ = false;
};

void declare_http(CLI::App& c, Options& o) {
  const char* group = "Network";
  c.add_option("--host", o.http.host,
               "address to listen on; any but a loopback address needs keys, or --insecure")
      ->capture_default_str()
      ->group(group);
  o.http.port = 8080;
  c.add_option("--port", o.http.port, "port; 0: any free one")->capture_default_str()->group(group);
  c.add_option("--tls-cert", o.http.certificate_file, "PEM file of the certificate, with its chain")
      ->group(group);
  c.add_option("--tls-key", o.http.key_file, "PEM file of its key")->group(group);
  c.add_option("--connections", o.http.connections, "connections at once; more are answered 503")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str()
      ->group(group);
  c.add_option("--trusted-proxy", o.http.trusted_proxies,
               "address of a proxy whose X-Forwarded-For is believed (may be repeated)")
      ->allow_extra_args(false)
      ->group(group);
  c.add_option("--allow-host", o.hosts,
               "name by which the server is called beside localhost, where nobody needs a key")
      ->allow_extra_args(false)
      ->group(group);
  group = "Keys";
  c.add_option(
       "--api-key", o.key,
       "the one key that is let in (better: the environment's HADAL_API_KEY, or --api-keys)")
      ->group(group);
  c.add_option("--api-keys", o.keys_file,
               "file of keys with names and limits (docs/server.md); read again on SIGHUP")
      ->group(group);
  c.add_flag("--insecure", o.open_door, "lets other machines in without a key")->group(group);
}

void declare(CLI::App& c, Options& o) {
  o.serve.declare(c, 100);
  c.get_option("MODEL")->required(false);
  c.add_option(
       "--config", o.config,
       "file of settings: the flags without dashes, as TOML (port = 8080). A flag beats the "
       "environment (HADAL_PORT; of what may be repeated, commas between), which beats the file")
      ->envname("HADAL_CONFIG");
  c.add_option("--name", o.name, "what the model is called in the APIs (default: its file's name)");
  c.add_option("--alias", o.aliases, "another name of it (may be repeated)")
      ->allow_extra_args(false);
  c.add_flag("--any-model", o.any_model, "answers whatever model a request names");
  const char* group = "Many requests";
  c.add_option("--queue", o.queue,
               "answers that may wait for a place; more are answered 429 (default: 4 × --parallel)")
      ->check(CLI::Range(int64_t{1}, int64_t{1000000}))
      ->group(group);
  c.add_option("--queue-tokens", o.queue_tokens,
               "tokens of their prompts together (default: twice the context)")
      ->check(CLI::Range(int64_t{1}, INT64_MAX / 4))
      ->group(group);
  c.add_option("--timeout", o.timeout,
               "seconds of a request that names no timeout of its own; 0: none")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str()
      ->group(group);
  c.add_option("--drain-seconds", o.drain_seconds,
               "SIGTERM lets the requests that run go on for so long")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str()
      ->group(group);
  declare_http(c, o);
  group = "Stored responses";
  c.add_option("--store", o.store,
               "where /v1/responses keeps its responses: a file (SQLite), memory, or off")
      ->capture_default_str()
      ->group(group);
  c.add_option("--store-responses", o.store_responses, "most of them; the oldest go")
      ->check(CLI::Range(int64_t{1}, INT64_MAX / 2))
      ->capture_default_str()
      ->group(group);
  c.add_option("--store-size", o.store_gb, "GiB of them")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str()
      ->group(group);
  group = "Watching";
  c.add_option("--log", o.log, "a line a request, on stderr: text, json or off. No prompt is in it")
      ->check(CLI::IsMember({"text", "json", "off"}))
      ->capture_default_str()
      ->group(group);
  c.add_option("--metrics-names", o.metrics_names,
               "vllm: /metrics has vLLM's names, too, for dashboards and gateways that know them")
      ->check(CLI::IsMember({"hadal", "vllm"}))
      ->capture_default_str()
      ->group(group);
  c.add_option("--script", o.script, "for tests: answers come from this file, not from the model")
      ->group("");
}

}  // namespace

void add_serve(CLI::App& app, Run& chosen, std::vector<std::string> arguments) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand(
      "serve", "serve a model to DeepSeek, OpenAI, Anthropic and Ollama clients");
  declare(*c, *o);
  c->callback([o, c, &chosen, arguments = std::move(arguments)] {
    chosen = [o, c, arguments](Output& out) -> Status {
      const std::string secrets[] = {"api-key"};
      HADAL_TRY(std::vector<SettingOrigin> origins,
                apply_settings(*c, arguments, o->config, secrets));
      if (o->serve.model.path.empty())
        return usage_error("MODEL: is missing: a GGUF file or a folder of safetensors");
      HADAL_TRY(o->serve.model.join());
      HADAL_TRY(choose_keys(*o, origins));
      for (const SettingOrigin& origin : origins)
        print_note("setting " + origin.name + " = " + origin.value + " (" + origin.from + ")");
      return Server(*o).run(out);
    };
  });
}

}  // namespace hadal::app
