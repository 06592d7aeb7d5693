#include "server/scripted_source.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/file.h"
#include "server/fields.h"

namespace hadal::server {

Result<std::unique_ptr<ScriptedSource>> ScriptedSource::read(const std::string& path,
                                                             const Tokenizer& tokenizer) {
  HADAL_TRY(const std::string text, read_text_file(path, limit("body").most));
  HADAL_TRY(const Json json, parse_body(text));
  std::unique_ptr<ScriptedSource> source(new ScriptedSource(tokenizer));
  const auto answers = json.find("answers");
  if (answers == json.end() || !answers->is_object())
    return usage_error(path + ": answers: an object of names and texts is expected");
  for (const auto& [name, answer] : answers->items()) {
    if (!answer.is_string()) return wrong_type("answers." + name, "a text", answer);
    source->answers_[name] = answer.get<std::string>();
  }
  Fields fields(json, "");
  HADAL_TRY(const auto bytes, fields.whole("bytes", limit("max_tokens")));
  source->bytes_ = bytes.value_or(1);
  HADAL_TRY(const auto delay, fields.real("delay_ms", limit("timeout")));
  source->delay_ms_ = delay.value_or(0);
  source->byte_tokens_.assign(256, -1);
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string token = tokenizer.token_bytes(id);
    if (token.size() != 1 || tokenizer.is_special(id)) continue;
    TokenId& place = source->byte_tokens_[static_cast<unsigned char>(token[0])];
    if (place < 0) place = id;
  }
  if (const auto none =
          std::find(source->byte_tokens_.begin(), source->byte_tokens_.end(), TokenId{-1});
      none != source->byte_tokens_.end())
    return usage_error(path + ": the vocabulary has no token for the byte " +
                       std::to_string(none - source->byte_tokens_.begin()));
  source->thread_ = std::thread([s = source.get()] { s->loop(); });
  return source;
}

ScriptedSource::~ScriptedSource() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  work_.notify_one();
  if (thread_.joinable()) thread_.join();
}

Result<std::vector<TokenSource::Ticket>> ScriptedSource::submit_all(std::vector<Request> requests,
                                                                    int64_t n,
                                                                    PartListener listener) {
  const std::scoped_lock lock(mutex_);
  std::vector<Ticket> tickets;
  for (size_t i = 0; i < requests.size(); ++i) {
    tickets.push_back({next_++});
    jobs_.push_back(
        {tickets.back(), std::move(requests[i]), n,
         [listener, i](int64_t sample, const TokenEvent& event) { listener(i, sample, event); }});
  }
  work_.notify_one();
  return tickets;
}

void ScriptedSource::cancel(Ticket ticket) {
  const std::scoped_lock lock(mutex_);
  cancelled_.push_back(ticket.value);
}

bool ScriptedSource::cancelled(Ticket ticket) {
  const std::scoped_lock lock(mutex_);
  return stop_ || std::find(cancelled_.begin(), cancelled_.end(), ticket.value) != cancelled_.end();
}

void ScriptedSource::loop() {
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      work_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
      if (stop_) return;
      job = std::move(jobs_.front());
      jobs_.erase(jobs_.begin());
    }
    tell(job);
  }
}

/// Tokens of so many bytes where the vocabulary has them, else of one.
std::vector<TokenId> ScriptedSource::tokens_of(const std::string& text) const {
  std::vector<TokenId> ids;
  for (size_t at = 0; at < text.size();) {
    const auto size = static_cast<size_t>(bytes_);
    std::vector<TokenId> piece;
    if (size > 1) piece = tokenizer_.encode(text.substr(at, size));
    if (size == 1 || tokenizer_.decode(piece, true) != text.substr(at, size)) {
      ids.push_back(byte_tokens_[static_cast<unsigned char>(text[at++])]);
    } else {
      ids.insert(ids.end(), piece.begin(), piece.end());
      at += size;
    }
  }
  return ids;
}

void ScriptedSource::tell(const Job& job) {
  const std::string prompt = tokenizer_.decode(job.request.prompt);
  const std::string* answer = nullptr;
  size_t last = 0;
  for (const auto& [name, text] : answers_) {
    const std::string mark = "script:" + name;
    // The end of the name must be the end of the word.
    for (size_t at = prompt.rfind(mark); at != std::string::npos && at >= last;) {
      const size_t end = at + mark.size();
      if (end < prompt.size() && std::isalnum(static_cast<unsigned char>(prompt[end])) != 0) break;
      answer = &text;
      last = at;
      break;
    }
  }
  for (int64_t sample = 0; sample < job.n; ++sample) {
    if (!answer) {
      job.listener(sample, {.finish = FinishReason::kError,
                            .stats = {},
                            .error = usage_error("the prompt names no answer of the script")});
      continue;
    }
    const std::vector<TokenId> ids = tokens_of(*answer);
    const auto most = static_cast<size_t>(job.request.max_new_tokens);
    for (size_t i = 0; i < std::min(ids.size(), most); ++i) {
      if (cancelled(job.ticket)) return;
      if (delay_ms_ > 0)
        std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(delay_ms_));
      const bool full = i + 1 == most;
      job.listener(sample, {.token = ids[i],
                            .logprob = -0.5F,
                            .finish = full ? FinishReason::kLength : FinishReason::kNone,
                            .stats = {}});
    }
    if (ids.size() >= most) continue;
    const TokenId end = job.request.ending.empty() ? -1 : job.request.ending.front();
    job.listener(sample, {.token = end, .finish = FinishReason::kEnding, .stats = {}});
  }
}

}  // namespace hadal::server
