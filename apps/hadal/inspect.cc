// hadal inspect: what is in a model file.
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "base/quant.h"
#include "checkpoint/printable.h"
#include "command.h"
#include "session/session.h"
#include "text/chat/chat.h"

namespace hadal::app {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string model, pre_tokenizer;
  bool json = false, deep = false, tensors = false, metadata = false;
};

/// Values that are no numbers in one tensor.
struct Findings {
  int64_t nan = 0, inf = 0;
};

Findings look(const TensorInfo& t) {
  Findings f;
  const DTypeInfo* type = dtype_info(t.dtype);
  constexpr int64_t kChunk = 4096;
  std::vector<float> values(kChunk);
  const int64_t n = t.elements();
  for (int64_t at = 0; at < n; at += kChunk) {
    const int64_t count = std::min(kChunk, n - at);
    if (!decode_to_f32(t.dtype, t.data.data() + at / type->block_values * type->block_bytes, count,
                       values.data()))
      return f;
    for (int64_t i = 0; i < count; ++i) {
      f.nan += std::isnan(values[static_cast<size_t>(i)]) ? 1 : 0;
      f.inf += std::isinf(values[static_cast<size_t>(i)]) ? 1 : 0;
    }
  }
  return f;
}

struct Totals {
  int64_t parameters = 0;
  uint64_t bytes = 0;
  std::map<std::string, std::pair<int64_t, uint64_t>> by_type;  // tensors, bytes
};

Totals total(const Checkpoint& checkpoint) {
  Totals t;
  for (const TensorInfo& info : checkpoint.tensors()) {
    t.parameters += info.elements();
    t.bytes += info.data.size();
    auto& [count, bytes] = t.by_type[std::string(dtype_name(info.dtype))];
    ++count;
    bytes += info.data.size();
  }
  return t;
}

/// The tokenizer and chat format in words; what cannot be used says why.
struct TextSide {
  std::string tokenizer = "none", chat_format = "none";
  std::vector<std::string> notes;
  Status usable;  ///< an error where a tokenizer is broken, or missing though the model needs one
};

TextSide text_side(const Checkpoint& checkpoint, const Model& model, const std::string& path) {
  TextSide text;
  const bool needed = model.needs_compressed_vocabulary();
  if (checkpoint.tokenizer().empty()) {
    if (needed)
      text.usable = failed(path +
                           ": has no tokenizer, and the model's Engram tables are addressed by its "
                           "vocabulary");
    return text;
  }
  const auto format = choose_chat_format(std::nullopt, checkpoint);
  text.chat_format = format ? std::string((*format)->name) : format.error().message;
  auto tokenizer = Tokenizer::create(checkpoint.tokenizer(), path);
  text.tokenizer = tokenizer ? (*tokenizer)->description() : tokenizer.error().message;
  if (tokenizer)
    text.notes = (*tokenizer)->notes();
  else if (needed || checkpoint.format() == CheckpointFormat::kSafetensors)
    text.usable = std::move(tokenizer).error();
  return text;
}

/// Unused names without what tells one layer from the next, each once: "model.layers.61.*" where
/// nothing of a layer is used, "layers.*.ffn.gate.bias_vl" where one part is not.
std::set<std::string> parts_of(const std::vector<std::string>& unused,
                               const Checkpoint& checkpoint) {
  const std::set<std::string> all(unused.begin(), unused.end());
  const auto layer_of = [](const std::string& name) {  // its end, with the dot
    const size_t digit = name.find_first_of("0123456789");
    const size_t dot = digit == std::string::npos ? digit : name.find('.', digit);
    return dot == std::string::npos ? std::string() : name.substr(0, dot + 1);
  };
  std::set<std::string> used_layers, parts;
  for (const TensorInfo& t : checkpoint.tensors())
    if (!all.contains(t.name)) used_layers.insert(layer_of(t.name));
  for (const std::string& name : unused) {
    const std::string layer = layer_of(name);
    const size_t digit = name.find_first_of("0123456789");
    parts.insert(layer.empty() ? name
                 : !used_layers.contains(layer)
                     ? layer + "*"
                     : name.substr(0, digit) + "*" + name.substr(layer.size() - 1));
  }
  return parts;
}

Status check_deep(const Checkpoint& checkpoint, Json& report, bool json, Output& out) {
  Json found = Json::array();
  for (const TensorInfo& t : checkpoint.tensors()) {
    HADAL_TRY(out.flush());
    const Findings f = look(t);
    if (f.nan == 0 && f.inf == 0) continue;
    found.push_back({{"tensor", t.name}, {"nan", f.nan}, {"inf", f.inf}});
    if (!json) out.print("  {}: {} NaN, {} infinite\n", printable(t.name), f.nan, f.inf);
  }
  const size_t bad = found.size();
  report["not_numbers"] = std::move(found);
  if (!json && bad == 0) out.write("every value of every tensor is a finite number\n");
  if (bad > 0)
    return failed(checkpoint.path().string() + ": " + std::to_string(bad) +
                  " tensors hold values that are no finite numbers");
  return {};
}

Status run(const Options& o, Output& out) {
  HADAL_TRY(const std::unique_ptr<Checkpoint> checkpoint,
            Checkpoint::open(o.model, {.pre_tokenizer = o.pre_tokenizer}));
  HADAL_TRY(const std::unique_ptr<Model> model, make_model(checkpoint->config()));
  HADAL_TRY(model->bind(*checkpoint));
  print_notes(checkpoint->notes());
  const Totals totals = total(*checkpoint);
  const TextSide text = text_side(*checkpoint, *model, o.model);
  Json j;
  j["model"] = o.model;
  j["format"] = checkpoint->description();
  j["architecture"] = model->spec().family;
  j["parameters"] = totals.parameters;
  j["weight_bytes"] = totals.bytes;
  j["spec"] = Json::object();
  for (const auto& [name, value] : model->spec().fields) j["spec"][name] = value;
  j["unused"] = model->unused();
  j["tokenizer"] = text.tokenizer;
  j["tokenizer_notes"] = text.notes;
  j["chat_format"] = text.chat_format;
  j["types"] = Json::object();
  for (const auto& [type, sum] : totals.by_type)
    j["types"][type] = {{"tensors", sum.first}, {"bytes", sum.second}};
  if (o.metadata || o.json)
    for (const auto& [key, value] : checkpoint->metadata()) j["metadata"][key] = value;
  if (o.tensors)
    for (const TensorInfo& t : checkpoint->tensors())
      j["tensors"].push_back({{"name", t.name},
                              {"file_name", t.file_name},
                              {"type", dtype_name(t.dtype)},
                              {"shape", t.shape},
                              {"bytes", t.data.size()}});
  if (!o.json) {
    const auto line = [&out](std::string_view name, std::string_view value) {
      out.print("  {:<26} {}\n", name, value);
    };
    out.print("{}\n  {}, architecture {}, {:.2f} billion parameters, {:.2f} GB\n", o.model,
              checkpoint->description(), model->spec().family,
              static_cast<double>(totals.parameters) / 1e9,
              static_cast<double>(totals.bytes) / 1e9);
    for (const auto& [name, value] : model->spec().fields) line(name, value);
    line("tokenizer", text.tokenizer);
    line("chat format", text.chat_format);
    for (const std::string& note : text.notes) line("note on the tokenizer", note);
    for (const auto& [type, sum] : totals.by_type)
      line(type,
           fmt::format("{} tensors, {:.1f} MB", sum.first, static_cast<double>(sum.second) / 1e6));
    for (const std::string& part : parts_of(model->unused(), *checkpoint))
      line("known, not used", printable(part));
    if (o.metadata)
      for (const auto& [key, value] : checkpoint->metadata()) out.print("  {} = {}\n", key, value);
    if (o.tensors)
      for (const TensorInfo& t : checkpoint->tensors())
        out.print("  {:<8} {:<16} {}\n", dtype_name(t.dtype), t.shape_text(), printable(t.name));
  }
  Status deep;
  if (o.deep) deep = check_deep(*checkpoint, j, o.json, out);
  if (o.json) out.print("{}\n", j.dump(-1, ' ', false, Json::error_handler_t::replace));
  return deep ? text.usable : deep;
}

}  // namespace

void add_inspect(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("inspect", "what is in a model file");
  c->add_option("MODEL", o->model, "a .gguf file or a model folder")->required();
  declare_pre_tokenizer(*c, o->pre_tokenizer);
  c->add_flag("--tensors", o->tensors, "list every tensor");
  c->add_flag("--metadata", o->metadata, "list all metadata");
  c->add_flag("--deep", o->deep, "look at every value: NaN and infinities fail");
  c->add_flag("--json", o->json, "one JSON object");
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run(*o, out); }; });
}

}  // namespace hadal::app
