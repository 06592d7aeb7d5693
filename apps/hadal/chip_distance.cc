// hadal chip distance: how far a chip, or several by placement or in ranks, is from the reference
// over a real model, and how far it may be (contract/distance.h).
//
// The kit runs it as its level `real`, with --events: then it tells what it does on a pipe, in the
// words of the kit's workers (conformance/worker.h), and prints nothing.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "engine/model_distance.h"
#include "text/tokenizer/tokenizer.h"

namespace hadal::app {
namespace {

using Json = nlohmann::ordered_json;

/// What a model that knows text is given: prose, figures, code and Chinese.
constexpr const char* kText =
    "The sea is blue because water takes up red light more than blue light. In 1921, C. V. Raman "
    "sailed home from Oxford and asked why; seven years later he had the answer, and in 1930 the "
    "Nobel Prize.\n\n```python\ndef mean(values: list[float]) -> float:\n    return sum(values) / "
    "len(values)\n```"
    "\n\n海水为什么是蓝色的？因为水吸收红光。第一，光线进入水中；第二，红光先消失；第三，"
    "蓝光被散射回来。\n\nA table of depths and what is left of the light there: 1 m, 45 %; 10 m, "
    "16 %; "
    "100 m, 1 %. Below two hundred metres it is dark, and what lives there makes its own light, if "
    "it "
    "needs any. Whales dive deeper than that, for squid.";

struct Options {
  ModelFlags model;
  std::string ids;
  int64_t positions = 48, alone = 8;
  bool events = false;
};

/// Says on a pipe what happens, for the kit that started this program; or nothing.
class Events {
 public:
  Events(bool wanted, std::string name) : wanted_(wanted), name_(std::move(name)) {}
  /// Also a sign of life.
  void begin(const std::string& what) { send({{"begin", name_}, {"text", what}, {"at", -1}}); }
  void fail(const std::string& why) { send({{"fail", name_}, {"text", why}}); }
  /// What the user asked for cannot be: nothing was tested.
  void refuse(const std::string& why) { send({{"error", why}}); }
  void counts(const Json& counts) { send({{"line", name_}, {"counts", counts}}); }
  void done() { send({{"done", true}}); }

 private:
  void send(const Json& event) const {
    constexpr int kPipe = 3;
    if (!wanted_) return;
    const std::string line = event.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    for (size_t sent = 0; sent < line.size();) {
      const ssize_t n = ::write(kPipe, line.data() + sent, line.size() - sent);
      if (n < 0 && errno != EINTR) return;  // nobody listens any more
      if (n > 0) sent += static_cast<size_t>(n);
    }
  }
  bool wanted_;
  std::string name_;
};

/// The tokens of kText, or of a model without a tokenizer any ones.
Result<std::vector<TokenId>> prompt_of(const Options& o, const Checkpoint& checkpoint) {
  std::vector<TokenId> ids;
  if (!o.ids.empty()) {
    HADAL_TRY(const std::vector<int64_t> given, parse_ids(o.ids));
    ids.assign(given.begin(), given.end());
    return ids;
  }
  if (!checkpoint.tokenizer().empty()) {
    HADAL_TRY(const std::unique_ptr<Tokenizer> tokenizer,
              Tokenizer::create(checkpoint.tokenizer(), checkpoint.path().string()));
    const std::vector<TokenId> text =
        tokenizer->encode(kText, {.added_tokens = false, .bos = true});
    for (int64_t i = 0; i < o.positions; ++i)
      ids.push_back(text[static_cast<size_t>(i) % text.size()]);
    return ids;
  }
  HADAL_TRY(const int64_t vocabulary, checkpoint.config().integer("vocab_size", 1, INT32_MAX));
  for (int64_t i = 0; i < o.positions; ++i)
    ids.push_back(static_cast<TokenId>((i * i * 31 + i * 17 + 5) % vocabulary));
  return ids;
}

/// The chip as it was configured, in words. `place`: the rules that it was placed by.
std::string where_of(const ModelFlags& model, const std::string& place) {
  std::string where = std::filesystem::path(model.chip).filename().string();
  if (model.device != 0) where += ":" + std::to_string(model.device);
  if (!model.place.empty()) where += ", " + model.place;
  if (model.place != place) where += ": " + (place.empty() ? "all of it is there" : place);
  if (model.ranks > 1) where += ", " + std::to_string(model.ranks) + " ranks";
  return where;
}

RunnerOptions chip_options(const Options& o, const Checkpoint& checkpoint, int64_t count) {
  RunnerOptions options = o.model.runner(checkpoint, count + 1);
  options.max_sequences = 1;
  options.max_tokens = std::min<int64_t>(512, count);
  options.max_logit_rows = std::min<int64_t>(64, count);
  return options;
}

Json to_json(const ModelDistance& f) {
  const contract::Distance& d = f.distance;
  Json json = {{"kl", d.kl},       {"class_kl", d.class_kl}, {"part", d.part},
               {"sigma", d.sigma}, {"beyond", d.beyond},     {"logits", d.logits},
               {"sure", d.sure},   {"flips", d.flips},       {"positions", d.positions}};
  if (f.followed) {
    json["choices"] = f.chip.rows;
    json["differ"] = f.chip.differ;
  }
  return json;
}

void print_distance(Output& out, const ModelDistance& f, const ModelNumerics& numerics,
                    const std::string& where, int64_t alone) {
  const contract::Distance& d = f.distance;
  std::string classes;
  for (const auto& [name, count] : numerics.counts())
    classes += (classes.empty() ? "" : ", ") + fmt::format("{} of {}", count, name);
  out.print("{} positions on {}, the last {} one by one; operators: {}\n", d.positions, where,
            alone, classes);
  out.print("  mean divergence from exact ref       {:.3g}\n", d.kl);
  out.print("  of ref in the chip's classes         {:.3g}\n", d.class_kl);
  out.print("  part of what is allowed              {:.2f}\n", d.part);
  if (f.followed) {
    out.print("  choices that are not exact ref's     {} of {}, in the classes {}\n", f.chip.differ,
              f.chip.rows, f.classes.differ);
    out.print("  the part where each run chooses      {:.2f}\n", f.own.part);
  }
  out.print("  sigma of a logit in the classes      {:.3g}\n", d.sigma);
  out.print(
      "  logits beyond 6 sigma                {} of {} ({:.2g} %)\n", d.beyond, d.logits,
      100.0 * static_cast<double>(d.beyond) / static_cast<double>(std::max<int64_t>(1, d.logits)));
  out.print("  positions with a margin above that   {} of {}\n", d.sure, d.positions);
  out.print("  other most likely tokens             {}{}\n", d.flips,
            d.flips > 0 && f.why.empty() ? ", each where the margin is not above that" : "");
  if (f.why.empty()) out.print("keeps both rules\n");
}

/// What the kit is told of a model, and whether the rules are kept.
Status measure(const Options& o, const Checkpoint& checkpoint, Events& events, Output& out) {
  events.begin("the chip is asked");
  ForcedPrompt prompt;
  HADAL_TRY(prompt.ids, prompt_of(o, checkpoint));
  const auto count = static_cast<int64_t>(prompt.ids.size());
  if (count == 0) return usage_error("--ids: at least one token is needed");
  prompt.alone = std::min(o.alone, count - 1);
  const RunnerOptions options = chip_options(o, checkpoint, count);
  HADAL_TRY(const ModelNumerics numerics, ask_numerics(checkpoint, options));
  Json line = {{"level", "real"}, {"cases", 1}, {"declined", 0}};
  if (!numerics.declined.empty()) {
    line["declined"] = 1;
    line["reason"] = numerics.declined;
    events.counts(line);
    return o.events ? Status() : failed(numerics.declined);
  }
  HADAL_TRY(
      const ModelDistance found,
      measure_model(checkpoint,
                    {.options = options,
                     .prompt = prompt,
                     .where = where_of(o.model, o.model.place),
                     .numerics = numerics,
                     .alive = [&](const std::string& what) { events.begin(what); },
                     .progress = [&] { return o.events ? LoadProgress() : progress_bar(); }}));
  const std::string where = where_of(o.model, found.place);
  line["worst"] = found.distance.part;
  for (const auto& [name, operators] : numerics.counts()) line["classes"][name] = 0;
  const std::string name = std::filesystem::path(o.model.path).filename().string();
  line["extra"][name + " on " + where] = to_json(found);
  events.counts(line);
  if (!o.events) {
    print_notes(found.notes);
    print_distance(out, found, numerics, where, prompt.alone);
  }
  return found.why.empty() ? Status() : failed(found.why);
}

Status run(const Options& o, Output& out) {
  HADAL_TRY(o.model.join());
  std::string name = "real " + std::filesystem::path(o.model.path).filename().string();
  if (!o.model.place.empty()) name += ", " + o.model.place;
  if (o.model.ranks > 1) name += ", " + std::to_string(o.model.ranks) + " ranks";
  Events events(o.events, name);
  const Result<std::unique_ptr<Checkpoint>> checkpoint = o.model.open();
  const Status measured =
      checkpoint ? measure(o, **checkpoint, events, out) : Status(checkpoint.error());
  if (!o.events) return measured;
  if (!measured) {
    // A file that is none, or a device that is not there, is no finding.
    const ErrorCode code = measured.error().code;
    const bool asked_wrongly =
        !checkpoint || code == ErrorCode::kUsage || code == ErrorCode::kNotFound;
    if (asked_wrongly)
      events.refuse(measured.error().message);
    else
      events.fail(measured.error().message);
  }
  events.done();
  return {};
}

}  // namespace

void add_distance(CLI::App& chip, Run& chosen) {
  auto o = std::make_shared<Options>();
  CLI::App* c = chip.add_subcommand(
      "distance",
      "how far a chip, or several, is from the reference over a real model, and how far it may be");
  o->model.declare(*c);
  c->add_option("--positions", o->positions, "tokens of a text that are run")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  c->add_option("--alone", o->alone, "so many of them one by one, as in decoding")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  c->add_option("--ids", o->ids, "these tokens instead, commas between; -: from standard input");
  c->add_flag("--events", o->events)->group("");
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run(*o, out); }; });
}

}  // namespace hadal::app
