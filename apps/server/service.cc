#include "server/service.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <random>
#include <utility>

#include "checkpoint/printable.h"
#include "hadal/version.h"
#include "server/anthropic_messages.h"
#include "server/ollama_models.h"
#include "server/ollama_requests.h"
#include "server/pages.h"
#include "text/chat/request_json.h"

namespace hadal::server {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kJson = "application/json";

std::string_view presented_key(const HttpRequest& head) {
  const std::string_view authorization = head.header("authorization");
  constexpr std::string_view kBearer = "bearer ";
  if (authorization.size() > kBearer.size() &&
      std::equal(kBearer.begin(), kBearer.end(), authorization.begin(),
                 [](char a, char b) { return a == std::tolower(static_cast<unsigned char>(b)); }))
    return authorization.substr(kBearer.size());
  return head.header("x-api-key");
}

/// The name in a Host or Origin header, without scheme and port, in lower case.
std::string host_name(std::string_view value) {
  if (const size_t scheme = value.find("://"); scheme != std::string_view::npos)
    value.remove_prefix(scheme + 3);
  value = value.starts_with('[') ? value.substr(0, value.find(']') + 1)
                                 : value.substr(0, value.find(':'));
  std::string name(value);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name;
}

bool is_local(const std::string& name, const std::vector<std::string>& more) {
  return name == "localhost" || name.ends_with(".localhost") || name == "[::1]" ||
         (name.starts_with("127.") && name.find_first_not_of("0123456789.") == std::string::npos) ||
         std::any_of(more.begin(), more.end(),
                     [&](const std::string& other) { return host_name(other) == name; });
}

std::string random_id() {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string id;
  for (int i = 0; i < 2; ++i)
    for (uint64_t bits = random(), n = 0; n < 12; ++n, bits >>= 4) id += kDigits[bits & 15];
  return id;
}

/// DeepSeek's hosted API has two names for its model: with thinking, and without.
std::optional<bool> hosted_mode(std::string_view name) {
  if (name == "deepseek-reasoner") return true;
  if (name == "deepseek-chat") return false;
  return std::nullopt;
}

/// Formats in which a request may turn thinking on and off.
bool switches_thinking(std::string_view chat_format) {
  return chat_format == "deepseek-v3.1" || chat_format == "deepseek-v3.2" ||
         chat_format == "deepseek-v4" || chat_format == "deepseek-v4.1";
}

/// A value of a query string, percent-decoded where it is plain; "" if it is not there.
std::string query_value(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    if (pair.starts_with(name) && pair.substr(name.size()).starts_with('='))
      return std::string(pair.substr(name.size() + 1));
  }
  return {};
}

/// The chat formats know an effort, and not by what field an API asks for it.
Error in_the_apis_words(Error error, Endpoint endpoint) {
  constexpr std::string_view kEffort = "effort: ";
  if (!error.message.starts_with(kEffort)) return error;
  const char* field = endpoint == Endpoint::kMessages    ? "output_config.effort: "
                      : endpoint == Endpoint::kResponses ? "reasoning.effort: "
                      : endpoint == Endpoint::kChat      ? "reasoning_effort: "
                                                         : "think: ";
  error.message.replace(0, kEffort.size(), field);
  return error;
}

ApiError no_route(const RouteMatch& match) {
  if (match.allow.empty())
    return {.status = 404,
            .message = "there is nothing at this path; / lists what is",
            .code = "not_found"};
  return {.status = 405,
          .message = "the method is not among those of this path: " + match.allow,
          .code = "method_not_allowed"};
}

ApiError no_key(bool missing) {
  return {.status = 401,
          .message = missing ? "a key is needed: give it as \"Authorization: Bearer KEY\" or as "
                               "\"x-api-key: KEY\""
                             : "the key is none of this server's",
          .type = "authentication_error",
          .code = "invalid_api_key"};
}

/// What the log says of an error: of a client's mistake where it is, but not the text, which may
/// repeat words of the request.
std::string logged(const ApiError& error) {
  if (error.status >= 500) return error.message;
  return error.code + (error.param.empty() ? "" : " at " + error.param);
}

}  // namespace

Service::Service(ServiceOptions options)
    : options_(std::move(options)), pool_(options_.preparing_threads, options_.preparing_most) {}

Service::~Service() { close(); }

void Service::close() {
  draining_ = closing_ = true;
  pool_.stop();
  if (desk_) desk_->stop();
}

void Service::set_keys(std::shared_ptr<const KeyRing> keys) {
  const std::scoped_lock lock(mutex_);
  if (keys) limiter_.forget_others(*keys);
  keys_ = std::move(keys);
}

std::shared_ptr<const KeyRing> Service::keys() const {
  const std::scoped_lock lock(mutex_);
  return keys_;
}

void Service::serve(Backend backend) {
  backend_ = std::move(backend);
  card_ = describe_model(*backend_.session, options_.model_name);
  card_.aliases = options_.aliases;
  const ModelRunner& runner = backend_.session->engine().runner();
  Metrics::About about{.version = HADAL_VERSION,
                       .model = card_.name,
                       .adapters = card_.adapters,
                       .vllm_names = options_.vllm_names};
  about.chip = runner.device().chip_name();
  // The group whose blocks hold the most tokens, which is that of the sequences' whole length.
  for (const BlockPool& pool : backend_.session->engine().blocks().tree().pools())
    if (pool.capacity() > about.blocks) {
      about.blocks = pool.capacity();
      about.block_tokens = pool.block_tokens;
    }
  metrics_ = std::make_unique<Metrics>(std::move(about));
  desk_ = std::make_unique<CallDesk>(
      *backend_.source,
      CallDesk::Options{
          .ping_seconds = options_.ping_seconds,
          .retry_after = [this] { return retry_after(); },
          .fingerprint = [this] { return fingerprint_of(backend_.snapshot().identity); }});
  loaded_ = true;
}

void Service::set_ready() { ready_ = true; }
void Service::drain() { draining_ = true; }

int64_t Service::open_calls() const { return preparing_ + (loaded_ ? desk_->open() : 0); }

/// Seconds until about one of those that wait has its turn.
int64_t Service::retry_after() const {
  const EngineThread::Snapshot now = backend_.snapshot();
  if (!now.devices.lost.empty()) return std::llround(EngineThread::kReopenSeconds);
  const double rounds = static_cast<double>(now.waiting + backend_.slots) /
                        static_cast<double>(std::max<int64_t>(backend_.slots, 1));
  return std::clamp<int64_t>(std::llround(std::ceil(rounds * call_seconds_ / 2)), 1, 60);
}

// ---- who may ask

std::optional<HttpRefusal> Service::gate(const HttpRequest& head) {
  const RouteMatch match = find_route(head.method, head.path);
  const ApiKind api = match.route ? match.route->api : api_of(head.path);
  const auto refuse = [&](const ApiError& error) {
    if (loaded_) metrics_->refused("", error.status);
    HttpRefusal refusal{.status = error.status,
                        .content_type = std::string(kJson),
                        .headers = {{"request-id", head.id}},
                        .body = error_body_of(api, error, head.id)};
    if (error.status == 401) refusal.headers.emplace_back("www-authenticate", "Bearer");
    if (error.status == 405) refusal.headers.emplace_back("allow", match.allow);
    return refusal;
  };
  // What takes no body reads none: without a key nobody may make the server hold bytes.
  const std::string_view length = head.header("content-length");
  const bool body = (!length.empty() && length != "0") || !head.header("transfer-encoding").empty();
  const bool takes_body = match.route && match.route->method == "POST";
  const auto spare_body = [&]() -> std::optional<HttpRefusal> {
    if (!body || takes_body) return std::nullopt;
    if (!match.route) return refuse(no_route(match));
    return refuse({.status = 413,
                   .message = "this path takes no body; leave it out",
                   .code = "request_too_large"});
  };
  if (match.route && match.route->open) return spare_body();
  if (const auto ring = keys()) {
    const std::string_view key = presented_key(head);
    return ring->find(key) ? spare_body() : refuse(no_key(key.empty()));
  }
  if (!options_.guard_host) return spare_body();
  for (const std::string_view name : {"host", "origin"}) {
    const std::string_view value = head.header(name);
    if (!value.empty() && !is_local(host_name(value), options_.hosts))
      return refuse({.status = 403,
                     .message = "the request's " + std::string(name) +
                                " header names another host, as that of a strange web page would; "
                                "--allow-host NAME lets it pass",
                     .type = "permission_error",
                     .code = "forbidden"});
  }
  return spare_body();
}

HttpRefusal Service::fault(const HttpRequest& head, int status, const std::string& message) const {
  ApiError error{.status = status, .message = message};
  if (status == 413) error.code = "request_too_large";
  if (status >= 500) error.type = error.code = "server_error";
  return {.status = status,
          .content_type = std::string(kJson),
          .headers = {{"request-id", head.id}},
          .body = error_body_of(api_of(head.path), error, head.id)};
}

// ---- what is asked

void Service::handle(std::shared_ptr<HttpExchange> exchange) {
  const HttpRequest& request = exchange->request();
  RouteMatch match = find_route(request.method, request.path);
  ApiKind api = match.route ? match.route->api : api_of(request.path);
  // The one path that two APIs share: Anthropic's clients say that they are.
  if (request.path.starts_with("/v1/models") && !request.header("anthropic-version").empty())
    api = ApiKind::kAnthropic;
  Asked asked{.exchange = std::move(exchange),
              .route = match.route,
              .api = api,
              .id = std::move(match.id),
              .arrived = Clock::now(),
              .ring = keys(),
              .headers = {},
              .model = {},
              .ignored = {}};
  if (asked.ring) asked.key = asked.ring->find(presented_key(request));
  asked.headers.emplace_back("request-id", request.id);  // Anthropic's name of x-request-id
  const std::string_view trace = request.header("traceparent");
  if (!trace_id(trace).empty()) asked.headers.emplace_back("traceparent", trace);
  // The keys may have been read again since the gate looked at the head.
  if (asked.ring && !asked.key && !(asked.route && asked.route->open))
    return answer_error(asked, no_key(false));
  if (asked.route) return dispatch(std::move(asked));
  if (!match.allow.empty()) asked.headers.emplace_back("allow", match.allow);
  answer_error(asked, no_route(match));
}

/// Whether the process lives, the model can answer, a new call would be taken.
void Service::answer_health(Asked& asked) {
  const Endpoint asks = asked.route->endpoint;
  Json body = {{"status", "ok"}};
  const std::string lost = ready_ ? backend_.snapshot().devices.lost : "";
  if (asks == Endpoint::kAlive) {
    // Nothing more is asked.
  } else if (!ready_) {
    body["status"] = "loading model";
  } else if (asks == Endpoint::kReady && draining_) {
    body["status"] = "draining";
  } else if (!lost.empty()) {
    body = {{"status", "a device is lost"}, {"reason", lost}};
  }
  answer(asked, body["status"] == "ok" ? 200 : 503, std::string(kJson), json_text(body));
}

void Service::dispatch(Asked asked) {
  switch (asked.route->endpoint) {
    case Endpoint::kAlive:
    case Endpoint::kHealth:
    case Endpoint::kReady:
      return answer_health(asked);
    case Endpoint::kDocs:
      return answer(asked, 200, "text/html; charset=utf-8", docs_page());
    case Endpoint::kOpenApi:
      return answer(asked, 200, std::string(kJson), openapi_json());
    default:
      break;
  }
  if (!loaded_ || !ready_) {
    asked.headers.emplace_back("retry-after", "5");
    return answer_error(asked, unavailable("the model is being loaded"));
  }
  switch (asked.route->endpoint) {
    case Endpoint::kFront:
      return answer(asked, 200, "text/html; charset=utf-8",
                    front_page(card_, {.host = asked.exchange->request().header("host"),
                                       .tls = asked.exchange->request().tls,
                                       .needs_key = asked.ring != nullptr}));
    case Endpoint::kMetrics:
      return answer(asked, 200, "text/plain; version=0.0.4; charset=utf-8",
                    metrics_->text({.engine = backend_.snapshot(),
                                    .http = backend_.http ? backend_.http() : HttpCounts{},
                                    .preparing = preparing_}));
    case Endpoint::kModels:
      return answer(asked, 200, std::string(kJson), models_body(asked));
    case Endpoint::kEmbeddings:
      return answer_error(asked, {.status = 400,
                                  .message = "the model generates text: it has no embeddings",
                                  .code = "not_supported"});
    default:
      break;
  }
  if (draining_) {
    asked.headers.emplace_back("retry-after", "30");
    return answer_error(asked, unavailable("the server stops; it takes no new calls"));
  }
  if (asked.route->method == "POST" && !admit(asked)) return;
  ++preparing_;
  auto shared = std::make_shared<Asked>(std::move(asked));
  const bool taken = pool_.add([this, shared] {
    prepare(*shared);
    --preparing_;
  });
  if (taken) return;
  --preparing_;
  shared->headers.emplace_back("retry-after", std::to_string(retry_after()));
  answer_error(*shared, unavailable("too many requests wait to be read; try again later"));
}

/// On a thread of the pool.
void Service::prepare(Asked& asked) {
  try {
    if (asked.exchange->gone()) return;
    if (closing_) {
      asked.headers.emplace_back("retry-after", "30");
      return answer_error(asked, unavailable("the server stops"));
    }
    Status done;
    if (const Api* api = find_api(asked.route->endpoint)) {
      done = prepare_call(asked, *api);
    } else if (auto body = look_up(asked)) {
      return answer(asked, 200, std::string(kJson), *std::move(body));
    } else {
      done = std::move(body).error();
    }
    if (!done)
      answer_error(asked, api_error(in_the_apis_words(done.error(), asked.route->endpoint)));
  } catch (const std::exception& e) {  // no memory
    try {
      asked.headers.emplace_back("retry-after", "5");
      answer_error(asked, unavailable(std::string("the request could not be read: ") + e.what()));
    } catch (const std::exception&) {
      // An exchange that is let go answers 500 by itself.
    }
  }
}

/// Takes the request from its key's allowance. False: it is answered with 429.
bool Service::admit(Asked& asked) {
  if (!asked.key) return true;
  RateLimiter::Verdict verdict = limiter_.admit(*asked.key, 0);
  asked.headers.insert(asked.headers.end(), verdict.headers.begin(), verdict.headers.end());
  asked.slot = std::make_shared<RateLimiter::Slot>(std::move(verdict.slot));
  if (verdict.admitted) return true;
  answer_error(asked, {.status = 429,
                       .message = verdict.reason,
                       .type = "rate_limit_error",
                       .code = "rate_limit_exceeded"});
  return false;
}

ApiContext Service::context_of(const Asked& asked) const {
  ApiContext context{.context = card_.served_context};
  ResponseStore* store = backend_.store;
  if (!store) return context;
  context.find = [store, owner = asked.key_name()](const std::string& id) {
    return store->find(owner, id);
  };
  context.store = [this, store, owner = asked.key_name()](const std::string& id,
                                                          const StoredResponse& response) {
    const Status saved = store->save(owner, id, response);
    if (!saved && options_.note)
      options_.note("a response was not stored: " + saved.error().message);
  };
  return context;
}

/// A call goes to the desk, or is answered at once. Errors are the request's.
Status Service::prepare_call(Asked& asked, const Api& api) {
  HADAL_TRY(const Json body, parse_body(asked.exchange->request().body));
  HADAL_TRY(const std::unique_ptr<ReadCall> read, api.read(body, context_of(asked)));
  ApiCall& common = read->common();
  HADAL_TRY(asked.model, model_of(asked, common));
  asked.ignored = common.ignored;
  const std::string named = std::exchange(common.model, asked.model);
  const bool stream = common.stream;
  ReplyHead head{.id = std::string(api.id_prefix) + random_id(),
                 .created = static_cast<int64_t>(std::time(nullptr)),
                 .model = asked.model};
  if (auto ready = read->at_once(head)) {
    answer(asked, 200, std::string(kJson), *std::move(ready));
    return {};
  }
  std::unique_ptr<Reply> reply = read->reply(std::move(head));
  Call call = read->take();
  if (std::holds_alternative<ChatCall>(call)) HADAL_TRY(check_chats());
  adopt(asked, call, named);
  HADAL_TRY(std::unique_ptr<RunningCall> running,
            RunningCall::prepare(*backend_.session, std::move(call)));
  desk_->take(desk_call(asked, std::move(running), std::move(reply), stream));
  return {};
}

/// What the model is called in the answer. Errors: kNotFound with the names that there are.
Result<std::string> Service::model_of(const Asked& asked, const ApiCall& call) const {
  const std::string& name = call.model;
  std::string shown = card_.name;
  const auto& adapters = card_.adapters;
  if (std::find(adapters.begin(), adapters.end(), name) != adapters.end())
    shown = name;
  else if (!name.empty() && !options_.any_model && !names_model(card_, name) &&
           !hosted_mode(name)) {
    std::string known = "\"" + card_.name + "\"";
    for (const auto* names : {&card_.aliases, &card_.adapters})
      for (const std::string& other : *names) known += ", \"" + other + "\"";
    return not_found("model: \"" + printable(name, 100) + "\" is not served; there is " + known);
  }
  if (asked.key && !asked.key->may_use(shown))
    return not_found("model: \"" + shown + "\" is not among those of this key");
  return shown;
}

/// What the server adds to a call: whose prefixes it may hit, its rank, its deadline, and what the
/// name by which the model was called says of thinking.
void Service::adopt(const Asked& asked, Call& call, const std::string& named) const {
  AnswerOptions& options = common(call).options;
  if (asked.key) {
    options.cache_salt = asked.key->name + "\n" + options.cache_salt;
    // A request may step back behind the others of its key, and never before them.
    const int64_t rank = std::max<int64_t>(options.priority, 0) + asked.key->priority;
    options.priority = static_cast<int32_t>(std::clamp<int64_t>(rank, INT32_MIN, INT32_MAX));
  }
  if (!options.deadline_seconds) options.deadline_seconds = options_.timeout_seconds;
  // Its time began when it came.
  if (options.deadline_seconds)
    *options.deadline_seconds -=
        std::chrono::duration<double>(Clock::now() - asked.arrived).count();
  auto* chat = std::get_if<ChatCall>(&call);
  if (!chat || chat->chat.thinking || !card_.thinks) return;
  // Ollama turns thinking on for every model that has it.
  if (asked.api == ApiKind::kOllama) chat->chat.thinking = true;
  if (const auto mode = hosted_mode(named); mode && switches_thinking(card_.chat_format))
    chat->chat.thinking = *mode;
}

DeskCall Service::desk_call(Asked& asked, std::unique_ptr<RunningCall> call,
                            std::unique_ptr<Reply> reply, bool stream) {
  const bool adapted = asked.model != card_.name;
  const std::string adapter = adapted ? asked.model : std::string();
  metrics_->begin(adapter);
  DeskCall ready{.exchange = asked.exchange,
                 .call = std::move(call),
                 .reply = std::move(reply),
                 .stream = stream,
                 .slow_end = asked.route->endpoint == Endpoint::kResponses && backend_.store,
                 .arrived = asked.arrived,
                 .slot = std::exchange(asked.slot, nullptr),
                 .headers = asked.headers,
                 .error_body = {},
                 .on_over = {},
                 .on_tokens = {}};
  ready.error_body = [api = asked.api, id = asked.exchange->request().id](const ApiError& error) {
    return error_body_of(api, error, id);
  };
  ready.on_over = [this, asked, adapter](const CallRecord& record) {
    metrics_->over(asked.key_name(), adapter, record);
    if (record.status == 200) call_seconds_ = 0.9 * call_seconds_ + 0.1 * record.seconds;
    log(asked, record);
  };
  ready.on_tokens = [this](double seconds, int64_t tokens) { metrics_->tokens(seconds, tokens); };
  return ready;
}

// ---- the smaller questions

Result<Service::Body> Service::look_up(const Asked& asked) {
  const std::string no_models = "{\"models\":[]}";
  const HttpRequest& request = asked.exchange->request();
  switch (asked.route->endpoint) {
    case Endpoint::kModel:
      return model_body(asked, asked.id);
    case Endpoint::kResponse:
    case Endpoint::kResponseDelete:
    case Endpoint::kResponseItems:
      return stored(asked);
    case Endpoint::kResponseCancel:
      return cancel_refused();
    case Endpoint::kOllamaTags:
      return (!asked.key || asked.key->may_use(card_.name)) ? tags_body(card_) : no_models;
    case Endpoint::kOllamaVersion:
      return version_body();
    case Endpoint::kOllamaPs:
      return (!asked.key || asked.key->may_use(card_.name)) ? ps_body(card_, {.bytes = card_.bytes})
                                                            : no_models;
    default:
      break;
  }
  HADAL_TRY(const Json body, parse_body(request.body));
  if (asked.route->endpoint == Endpoint::kOllamaShow) {
    HADAL_TRY(const OllamaShow show, read_ollama_show(body));
    ApiCall named;
    named.model = show.model;
    HADAL_TRY(model_of(asked, named));
    return show_body(card_, show.verbose, show.model);
  }
  if (asked.route->endpoint == Endpoint::kCountTokens ||
      asked.route->endpoint == Endpoint::kInputTokens)
    return count_tokens(asked, body);
  if (asked.route->endpoint == Endpoint::kTokenize) return tokenize(body);
  if (asked.route->endpoint == Endpoint::kDetokenize) return detokenize(body);
  return failed("nothing answers this route");
}

Result<Service::Body> Service::stored(const Asked& asked) const {
  if (!backend_.store) return not_found("this server keeps no responses (--store)");
  const std::string owner = asked.key_name();
  if (asked.route->endpoint == Endpoint::kResponseDelete) {
    HADAL_TRY(backend_.store->erase(owner, asked.id));
    return deleted_response(asked.id);
  }
  HADAL_TRY(const StoredResponse found, backend_.store->find(owner, asked.id));
  const std::string& query = asked.exchange->request().query;
  if (asked.route->endpoint == Endpoint::kResponseItems)
    return list_input_items(found, {.limit = query_value(query, "limit"),
                                    .order = query_value(query, "order"),
                                    .after = query_value(query, "after")});
  if (query_value(query, "stream") == "true")
    return usage_error("stream: a response that is over is not streamed again; leave it out");
  return found.response;
}

/// A chat's prompt, for endpoints that count its tokens.
Result<std::vector<TokenId>> Service::chat_tokens(ChatRequest chat) const {
  HADAL_TRY(check_chats());
  HADAL_TRY(PreparedRequest prepared, backend_.session->prepare_chat(std::move(chat), {}));
  return std::move(prepared.prompt);
}

Result<Service::Body> Service::count_tokens(const Asked& asked, const Json& body) const {
  const bool responses = asked.route->endpoint == Endpoint::kInputTokens;
  ChatCall call;
  if (responses) {
    HADAL_TRY(call, read_responses_call(body, context_of(asked).find));
  } else {
    HADAL_TRY(call, read_count_tokens_call(body));
  }
  HADAL_TRY(model_of(asked, call));
  HADAL_TRY(const std::vector<TokenId> ids, chat_tokens(std::move(call.chat)));
  const auto tokens = static_cast<int64_t>(ids.size());
  if (!responses) return count_tokens_body(tokens);
  return json_text({{"object", "response.input_tokens"}, {"input_tokens", tokens}});
}

/// The model can be talked to. Errors: kUsage.
Status Service::check_chats() const {
  const auto format = backend_.session->chat_format();
  if (format) return {};
  return usage_error(
      "this model's chat format is not known to the server, so that it answers raw completions "
      "alone (/v1/completions); whoever runs the server may choose one by --chat-format");
}

Result<Service::Body> Service::tokenize(const Json& body) const {
  const Tokenizer* tokenizer = backend_.session->tokenizer();
  if (!tokenizer) return usage_error("the model has no tokenizer");
  Fields fields(body, "");
  fields.find("model");
  const bool chat = fields.find("messages") != nullptr;
  std::vector<TokenId> ids;
  if (chat) {
    HADAL_TRY(ChatRequest messages, read_chat_request(body));
    HADAL_TRY(ids, chat_tokens(std::move(messages)));
  } else {
    const char* name = fields.find("content") ? "content" : "prompt";
    if (!fields.find(name)) return usage_error("prompt: is missing: a text, or messages of a chat");
    HADAL_TRY(const std::string text, fields.text(name));
    HADAL_TRY(const bool special, fields.flag("add_special_tokens", true));
    ids = tokenizer->encode(text, {.added_tokens = true, .bos = special && tokenizer->add_bos()});
  }
  Json reply;
  reply["count"] = ids.size();
  reply["max_model_len"] = card_.served_context;
  reply["tokens"] = ids;
  return json_text(reply);
}

Result<Service::Body> Service::detokenize(const Json& body) const {
  const Tokenizer* tokenizer = backend_.session->tokenizer();
  if (!tokenizer) return usage_error("the model has no tokenizer");
  Fields fields(body, "");
  HADAL_TRY(const std::vector<TokenId> ids,
            fields.ids("tokens", limit("prompt[]"), limit("prompt[][]")));
  for (const TokenId id : ids)
    if (id >= tokenizer->vocab_size())
      return usage_error("tokens: " + std::to_string(id) + " is outside the vocabulary of " +
                         std::to_string(tokenizer->vocab_size()));
  const std::string text = tokenizer->decode(ids, true);
  return json_text(Json{{"prompt", text}, {"content", text}});
}

// ---- models

namespace {

Json model_entry(ApiKind api, const ModelCard& card, const std::string& name) {
  if (api == ApiKind::kAnthropic)
    return {{"type", "model"},
            {"id", name},
            {"display_name", name},
            {"created_at", rfc3339(card.created * 1000000000)}};
  return {{"id", name},          {"object", "model"}, {"created", card.created},
          {"owned_by", "hadal"}, {"root", card.name}, {"max_model_len", card.served_context}};
}

/// Names that the key may use; an alias goes with its model.
std::vector<std::string> names_for(const ApiKey* key, const ModelCard& card) {
  std::vector<std::string> names;
  const auto may = [&](const std::string& name) { return !key || key->may_use(name); };
  if (may(card.name)) {
    names.push_back(card.name);
    names.insert(names.end(), card.aliases.begin(), card.aliases.end());
  }
  std::copy_if(card.adapters.begin(), card.adapters.end(), std::back_inserter(names), may);
  return names;
}

}  // namespace

Service::Body Service::models_body(const Asked& asked) const {
  Json list = Json::array();
  const std::vector<std::string> names = names_for(asked.key, card_);
  for (const std::string& name : names) list.push_back(model_entry(asked.api, card_, name));
  if (asked.api == ApiKind::kAnthropic)
    return json_text({{"data", list},
                      {"has_more", false},
                      {"first_id", names.empty() ? Json() : Json(names.front())},
                      {"last_id", names.empty() ? Json() : Json(names.back())}});
  return json_text({{"object", "list"}, {"data", list}});
}

Result<Service::Body> Service::model_body(const Asked& asked, const std::string& id) const {
  for (const std::string& name : names_for(asked.key, card_))
    if (name == id) return json_text(model_entry(asked.api, card_, name));
  return not_found("model: \"" + printable(id, 100) + "\" is not served; /v1/models lists what is");
}

// ---- answers that are there at once

void Service::answer(Asked& asked, int status, std::string type, Body body, std::string error) {
  asked.exchange->respond(status, std::move(type), asked.headers, std::move(body));
  const Endpoint endpoint = asked.route ? asked.route->endpoint : Endpoint::kFront;
  const bool asks_often = endpoint == Endpoint::kHealth || endpoint == Endpoint::kAlive ||
                          endpoint == Endpoint::kReady || endpoint == Endpoint::kMetrics;
  if (asks_often && status == 200) return;
  log(asked, {.status = status,
              .end = {},
              .error = std::move(error),
              .seconds = std::chrono::duration<double>(Clock::now() - asked.arrived).count()});
}

void Service::answer_error(Asked& asked, const ApiError& error) {
  if (loaded_) metrics_->refused(asked.key_name(), error.status);
  answer(asked, error.status, std::string(kJson),
         error_body_of(asked.api, error, asked.exchange->request().id), logged(error));
}

void Service::log(const Asked& asked, const CallRecord& record) const {
  if (!options_.log) return;
  const HttpRequest& request = asked.exchange->request();
  options_.log({.method = request.method,
                .path = request.path,
                .peer = request.peer,
                .id = request.id,
                .trace = trace_id(request.header("traceparent")),
                .status = record.status,
                .key = asked.key_name(),
                .model = asked.model,
                .end = record.end,
                .error = record.error,
                .usage = record.usage,
                .first_token_seconds = record.first_token_seconds,
                .seconds = record.seconds,
                .ignored = asked.ignored});
}

}  // namespace hadal::server
