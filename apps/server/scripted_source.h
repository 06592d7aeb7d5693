// ScriptedSource: a source of tokens that says what a file tells it, byte by byte. For tests: it
// stands behind the server in the engine's place, so that streams of every format and every end can
// be had from a tiny model (`hadal serve --script FILE`).
//
// The file is JSON: {"answers": {"NAME": "text", …}, "bytes": 1, "delay_ms": 0}. The answer is the
// one whose "NAME" stands last in the prompt as "script:NAME". Its text comes in tokens of so many
// bytes; with 1, each byte is a token of its own, markers included.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/token_source.h"
#include "text/tokenizer/tokenizer.h"

namespace hadal::server {

class ScriptedSource final : public TokenSource {
 public:
  /// The tokenizer must outlive the source, and have a token for each byte. Errors: kUsage.
  static Result<std::unique_ptr<ScriptedSource>> read(const std::string& path,
                                                      const Tokenizer& tokenizer);
  ~ScriptedSource() override;
  ScriptedSource(const ScriptedSource&) = delete;
  ScriptedSource& operator=(const ScriptedSource&) = delete;

  Result<std::vector<Ticket>> submit_all(std::vector<Request> requests, int64_t n,
                                         PartListener listener) override;
  void cancel(Ticket ticket) override;

 private:
  struct Job {
    Ticket ticket;
    Request request;
    int64_t n = 1;
    Listener listener;
  };
  explicit ScriptedSource(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  void loop();
  void tell(const Job& job);
  [[nodiscard]] bool cancelled(Ticket ticket);
  [[nodiscard]] std::vector<TokenId> tokens_of(const std::string& text) const;

  const Tokenizer& tokenizer_;
  std::map<std::string, std::string> answers_;
  std::vector<TokenId> byte_tokens_;  ///< by byte
  int64_t bytes_ = 1;
  double delay_ms_ = 0;
  std::mutex mutex_;
  std::condition_variable work_;
  std::vector<Job> jobs_;
  std::vector<int64_t> cancelled_;
  int64_t next_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace hadal::server
