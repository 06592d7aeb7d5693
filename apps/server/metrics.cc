#include "server/metrics.h"

#include <unistd.h>

#include <cstdio>
#include <ctime>

namespace hadal::server {
namespace {

/// A label's value, escaped as the text format wants it.
std::string in_quotes(std::string_view value) {
  std::string out = "\"";
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out + "\"";
}

std::string number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.12g", value);
  return text;
}

void head(std::string& out, std::string_view name, std::string_view type, std::string_view help) {
  out.append("# HELP ").append(name).append(" ").append(help).append("\n");
  out.append("# TYPE ").append(name).append(" ").append(type).append("\n");
}

void line(std::string& out, std::string_view name, std::string_view labels, double value) {
  out.append(name);
  if (!labels.empty()) out.append("{").append(labels).append("}");
  out.append(" ").append(number(value)).append("\n");
}

void single(std::string& out, std::string_view name, std::string_view type, std::string_view help,
            double value, std::string_view labels = {}) {
  head(out, name, type, help);
  line(out, name, labels, value);
}

int64_t resident_bytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (!file) return 0;
  long all = 0, resident = 0;
  const int read = std::fscanf(file, "%ld %ld", &all, &resident);
  std::fclose(file);
  return read == 2 ? resident * sysconf(_SC_PAGESIZE) : 0;
}

double real(int64_t value) { return static_cast<double>(value); }

}  // namespace

void Histogram::add(double value, int64_t times) {
  size_t i = 0;
  while (i < kBounds.size() && value > kBounds[i]) ++i;
  counts_[i] += times;
  sum_ += value * static_cast<double>(times);
}

void Histogram::write(std::string& out, std::string_view name) const {
  const std::string bucket = std::string(name) + "_bucket";
  int64_t total = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    total += counts_[i];
    const std::string bound = i < kBounds.size() ? number(kBounds[i]) : "+Inf";
    line(out, bucket, "le=" + in_quotes(bound), real(total));
  }
  line(out, std::string(name) + "_sum", {}, sum_);
  line(out, std::string(name) + "_count", {}, real(total));
}

void Metrics::begin(const std::string& adapter) {
  if (adapter.empty()) return;
  const std::scoped_lock lock(mutex_);
  ++open_adapters_[adapter];
}

void Metrics::over(const std::string& key, const std::string& adapter, const CallRecord& record) {
  const std::scoped_lock lock(mutex_);
  if (!adapter.empty()) --open_adapters_[adapter];
  ++requests_[{key, record.status, record.end}];
  usage_[key] += record.usage;
  if (record.first_token_seconds >= 0) first_token_.add(record.first_token_seconds);
  if (record.status == 200) whole_.add(record.seconds);
}

void Metrics::refused(const std::string& key, int status) {
  const std::scoped_lock lock(mutex_);
  ++requests_[{key, status, "refused"}];
}

void Metrics::tokens(double seconds, int64_t tokens) {
  const std::scoped_lock lock(mutex_);
  between_tokens_.add(seconds / static_cast<double>(tokens), tokens);
}

std::string Metrics::text(const Now& now) const {
  std::string out;
  const std::scoped_lock lock(mutex_);
  write_own(out, now);
  if (about_.vllm_names) write_vllm(out, now);
  return out;
}

void Metrics::write_own(std::string& out, const Now& now) const {
  single(out, "hadal_build_info", "gauge", "What runs.", 1,
         "version=" + in_quotes(about_.version) + ",model=" + in_quotes(about_.model) +
             ",chip=" + in_quotes(about_.chip));
  head(out, "hadal_requests_total", "counter", "Requests that are over, by key, status and end.");
  for (const auto& [labels, count] : requests_)
    line(out, "hadal_requests_total",
         "key=" + in_quotes(std::get<0>(labels)) + ",status=\"" +
             std::to_string(std::get<1>(labels)) + "\",end=" + in_quotes(std::get<2>(labels)),
         real(count));
  struct Row {
    const char* name;
    const char* help;
    int64_t UsageCounts::* value;
  };
  constexpr Row kRows[] = {
      {"hadal_prompt_tokens_total", "Tokens of prompts.", &UsageCounts::prompt_tokens},
      {"hadal_cached_prompt_tokens_total", "Of these: found in the prefix cache.",
       &UsageCounts::cached_tokens},
      {"hadal_generated_tokens_total", "Tokens of answers.", &UsageCounts::completion_tokens},
      {"hadal_thought_tokens_total", "Of these: of thoughts.", &UsageCounts::reasoning_tokens}};
  for (const Row& row : kRows) {
    head(out, row.name, "counter", row.help);
    for (const auto& [key, usage] : usage_)
      line(out, row.name, "key=" + in_quotes(key), real(usage.*row.value));
  }
  for (const auto& [name, help, histogram] :
       {std::tuple{"hadal_first_token_seconds", "From a call's arrival to its first token.",
                   &first_token_},
        std::tuple{"hadal_between_tokens_seconds", "Between the tokens of a call.",
                   &between_tokens_},
        std::tuple{"hadal_request_seconds", "From a call's arrival to its end.", &whole_}}) {
    head(out, name, "histogram", help);
    histogram->write(out, name);
  }
  const EngineThread::Snapshot& e = now.engine;
  single(out, "hadal_requests_waiting", "gauge", "Answers that wait for a place.", real(e.waiting));
  single(out, "hadal_requests_running", "gauge", "Answers that are generated.", real(e.running));
  single(out, "hadal_requests_preparing", "gauge", "Calls that are read and made ready.",
         real(now.preparing));
  single(out, "hadal_cache_used_ratio", "gauge", "Of the cache: held by running answers, 0 to 1.",
         e.cache_used);
  single(out, "hadal_preemptions_total", "counter", "Answers that lost their place for a while.",
         real(e.preemptions));
  single(out, "hadal_steps_total", "counter", "Steps of the engine.", real(e.counts.steps));
  single(out, "hadal_drafted_tokens_total", "counter", "Guessed tokens that were verified.",
         real(e.counts.drafted_tokens));
  single(out, "hadal_accepted_tokens_total", "counter", "Of these: right.",
         real(e.counts.accepted_tokens));
  const HttpCounts& h = now.http;
  single(out, "hadal_fallback_operators", "gauge",
         "Operators of a step that the cpu computes, since the chip declines them or is lost.",
         real(e.counts.fallback_operators));
  single(out, "hadal_device_up", "gauge", "1: all devices are there; 0: one is lost.",
         e.devices.lost.empty() ? 1 : 0);
  single(out, "hadal_device_lost_total", "counter", "Times that a device was lost.",
         real(e.devices.losses));
  single(out, "hadal_device_reopened_total", "counter",
         "Times that lost devices were opened again, or the cpu took their part.",
         real(e.devices.reopened));
  single(out, "hadal_transferred_bytes_total", "counter",
         "Bytes that went from one device to another.", real(e.counts.transferred_bytes));
  single(out, "hadal_connections_open", "gauge", "Connections.", real(h.connections_open));
  single(out, "hadal_connections_total", "counter", "Connections accepted.", real(h.accepted));
  single(out, "hadal_connections_turned_away_total", "counter", "Connections above the limit.",
         real(h.turned_away));
  single(out, "hadal_clients_gone_total", "counter",
         "Clients that left before their response was complete.", real(h.gone));
  single(out, "hadal_clients_slow_total", "counter",
         "Streams dropped because their client did not read.", real(h.dropped_slow));
  single(out, "hadal_http_timeouts_total", "counter",
         "Heads, bodies and writes that took too long.", real(h.timed_out));
  single(out, "process_cpu_seconds_total", "counter", "Processor time of all threads.",
         static_cast<double>(std::clock()) / CLOCKS_PER_SEC);
  single(out, "process_resident_memory_bytes", "gauge", "Resident memory.", real(resident_bytes()));
}

void Metrics::write_vllm(std::string& out, const Now& now) const {
  const std::string model = "model_name=" + in_quotes(about_.model);
  const auto one = [&](const char* name, const char* type, const char* help, double value) {
    single(out, name, type, help, value, model);
  };
  UsageCounts all;
  for (const auto& [key, usage] : usage_) all += usage;
  const EngineThread::Snapshot& e = now.engine;
  one("vllm:num_requests_waiting", "gauge", "Answers that wait.", real(e.waiting));
  one("vllm:num_requests_running", "gauge", "Answers that are generated.", real(e.running));
  one("vllm:kv_cache_usage_perc", "gauge", "Of the cache, 0 to 1.", e.cache_used);
  one("vllm:num_preemptions_total", "counter", "Preemptions.", real(e.preemptions));
  one("vllm:prompt_tokens_total", "counter", "Tokens of prompts.", real(all.prompt_tokens));
  one("vllm:generation_tokens_total", "counter", "Tokens of answers.", real(all.completion_tokens));
  one("vllm:prefix_cache_queries_total", "counter", "Tokens looked up.", real(all.prompt_tokens));
  one("vllm:prefix_cache_hits_total", "counter", "Tokens found.", real(all.cached_tokens));
  one("vllm:spec_decode_num_draft_tokens_total", "counter", "Guesses.",
      real(e.counts.drafted_tokens));
  one("vllm:spec_decode_num_accepted_tokens_total", "counter", "Right ones.",
      real(e.counts.accepted_tokens));
  head(out, "vllm:request_success_total", "counter", "Answers by their end.");
  std::map<std::string, int64_t> ends;
  for (const auto& [labels, count] : requests_)
    if (std::get<1>(labels) == 200)
      ends[std::get<2>(labels) == "stop" ? "stop" : "length"] += count;
  for (const auto& [end, count] : ends)
    line(out, "vllm:request_success_total", model + ",finished_reason=" + in_quotes(end),
         real(count));
  for (const auto& [name, histogram] :
       {std::pair{"vllm:time_to_first_token_seconds", &first_token_},
        std::pair{"vllm:inter_token_latency_seconds", &between_tokens_},
        std::pair{"vllm:e2e_request_latency_seconds", &whole_}}) {
    head(out, name, "histogram", "Seconds.");
    histogram->write(out, name);
  }
  single(out, "vllm:cache_config_info", "gauge", "The cache's blocks.", 1,
         "block_size=\"" + std::to_string(about_.block_tokens) + "\",num_gpu_blocks=\"" +
             std::to_string(about_.blocks) + "\"");
  std::string running;
  for (const auto& [adapter, open] : open_adapters_)
    if (open > 0) running += (running.empty() ? "" : ",") + adapter;
  single(out, "vllm:lora_requests_info", "gauge", "Adapters in use.",
         static_cast<double>(std::time(nullptr)),
         "max_lora=\"" + std::to_string(about_.adapters.size()) +
             "\",running_lora_adapters=" + in_quotes(running) + ",waiting_lora_adapters=\"\"");
}

}  // namespace hadal::server
