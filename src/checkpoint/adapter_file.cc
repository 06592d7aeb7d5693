#include "checkpoint/adapter_file.h"

#include <fmt/format.h>
#include <bit>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <system_error>

#include "base/quant.h"
#include "checkpoint/printable.h"
#include "checkpoint/safetensors.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxConfigBytes = int64_t{4} << 20;
constexpr int64_t kMaxRank = 1 << 16;
constexpr const char* kConfigName = "adapter_config.json";
constexpr const char* kTensorsName = "adapter_model.safetensors";

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// ---- configuration

/// "false", "null", "none", an empty list: what a feature looks like that was not used.
bool is_off(const std::string& value) {
  constexpr std::array<std::string_view, 7> kOff = {"", "false", "null", "none", "[]", "{}", "0"};
  return std::find(kOff.begin(), kOff.end(), value) != kOff.end();
}

struct Refusal {
  const char* key;
  const char* why;
};
constexpr auto kRefused = std::to_array<Refusal>({
    {"use_dora", "DoRA is not known; train with use_dora false"},
    {"bias", "biases that were trained are not known; train with bias \"none\""},
    {"lora_bias", "biases of B are not known; train with lora_bias false"},
    {"modules_to_save", "modules that were trained whole are not known; merge them into the model"},
    {"fan_in_fan_out", "it is for models that hold their matrices turned"},
    {"layer_replication", "it repeats layers of the model"},
    {"trainable_token_indices", "embeddings that were trained are not known"},
    {"alora_invocation_tokens", "adapters that begin at a token are not known"},
});

/// Initialisations that take a part out of the model's own weights.
constexpr std::array<std::string_view, 5> kMovesWeights = {"pissa", "olora", "corda", "loftq",
                                                           "lora_ga"};

/// Whether a key that is on makes the adapter another one. Those left out change training alone.
bool names_variant(std::string_view key) {
  constexpr std::array<std::string_view, 5> kHarmless = {"use_rslora", "eva_config", "loftq_config",
                                                         "megatron_config", "runtime_config"};
  return (key.starts_with("use_") || key.ends_with("_config")) &&
         std::find(kHarmless.begin(), kHarmless.end(), key) == kHarmless.end();
}

Status check_kind(const Config& config) {
  HADAL_TRY(const std::string type, config.text("peft_type", "LORA"));
  if (type != "LORA")
    return failed(
        fmt::format("{}: peft_type is {}; known is \"LORA\"", config.origin(), quote(type)));
  for (const Refusal& r : kRefused)
    if (const std::string value = config.value_text(r.key, 60); !is_off(value))
      return failed(fmt::format("{}: {} is {}: {}", config.origin(), r.key, value, r.why));
  for (const std::string& key : config.keys())
    if (names_variant(key) && !is_off(config.value_text(key, 60)))
      return failed(fmt::format("{}: {} is {}: that variant of LoRA is not known", config.origin(),
                                printable(key), config.value_text(key, 60)));
  if (const std::string init = config.value_text("init_lora_weights", 60); !is_off(init))
    for (const std::string_view name : kMovesWeights)
      if (init.starts_with(name))
        return failed(fmt::format(
            "{}: init_lora_weights is {}, which moves a part of the model's weights into the "
            "adapter; convert it to a plain LoRA when saving it (peft: "
            "path_initial_model_for_weight_conversion)",
            config.origin(), init));
  return {};
}

/// A key of a pattern that is a name or the end of one; others are regular expressions.
bool is_plain(std::string_view key) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  if (key.starts_with('^')) key.remove_prefix(1);
  return !key.empty() && key.find_first_not_of(kPlain) == std::string_view::npos;
}

/// The number of `pattern` (rank_pattern, alpha_pattern) for a module: keys are the ends of names,
/// at a dot, or whole names with a "^" before them.
Result<std::optional<double>> pattern_value(const Config& config, const char* pattern,
                                            const std::string& module) {
  HADAL_TRY(const Config values, config.object(pattern));
  for (const std::string& key : values.keys()) {
    const bool whole = key.starts_with('^');
    const std::string name = whole ? key.substr(1) : key;
    if (!is_plain(key))
      return failed(
          fmt::format("{}: {}: key {} is a regular expression; known are names and ends "
                      "of names",
                      config.origin(), pattern, quote(key)));
    if (module == name || (!whole && module.ends_with("." + name))) {
      HADAL_TRY(const double value, values.real(key));
      return std::optional<double>(value);
    }
  }
  return std::optional<double>();
}

// ---- tensors

/// What a tensor of the file is.
struct Place {
  std::string module;
  bool is_a = false;
};

/// "base_model.model.X.lora_A.weight", or with peft's name of the adapter before ".weight".
Result<Place> place_of(const std::string& name, const std::string& origin) {
  constexpr std::string_view kPrefix = "base_model.model.", kWeight = ".weight";
  const auto refuse = [&](const std::string& why) {
    return failed(fmt::format("{}: tensor {}: {}", origin, quote(name, 160), why));
  };
  if (name.find(".lora_embedding_") != std::string::npos)
    return refuse("it adapts an embedding, which is looked up and not multiplied");
  if (name.find("lora_magnitude_vector") != std::string::npos)
    return refuse("it belongs to DoRA, which is not known");
  for (const bool is_a : {true, false}) {
    const std::string_view key = is_a ? ".lora_A" : ".lora_B";
    const size_t at = name.rfind(key);
    if (at == std::string::npos) continue;
    std::string rest = name.substr(at + key.size());
    if (!rest.ends_with(kWeight) || std::count(rest.begin(), rest.end(), '.') > 2)
      return refuse(fmt::format("expected \"…{}.weight\", or one name between", key));
    std::string module = name.substr(0, at);
    if (module.starts_with(kPrefix)) module = module.substr(kPrefix.size());
    if (module.empty()) return refuse("it names no module");
    return Place{std::move(module), is_a};
  }
  return refuse("it is neither lora_A nor lora_B of a module: trained whole, or of another kind");
}

Status check_finite(const AdapterMatrix& m, const std::string& origin) {
  std::vector<float> row(static_cast<size_t>(m.cols));
  const int64_t stride = row_bytes(m.dtype, m.cols).value_or(0);
  for (int64_t r = 0; r < m.rows; ++r) {
    HADAL_CHECK(decode_to_f32(m.dtype, m.data.data() + r * stride, m.cols, row.data()));
    for (size_t c = 0; c < row.size(); ++c)
      if (!std::isfinite(row[c]))
        return failed(fmt::format("{}: tensor {} holds {} at [{}, {}], expected finite numbers",
                                  origin, quote(m.name, 160), row[c], r, c));
  }
  return {};
}

Result<AdapterMatrix> matrix_of(const SafetensorsEntry& entry, const std::string& origin) {
  if (entry.dtype != HADAL_F32 && entry.dtype != HADAL_F16 && entry.dtype != HADAL_BF16)
    return failed(fmt::format("{}: tensor {} is of type {}, expected F32, F16 or BF16", origin,
                              quote(entry.name, 160), dtype_name(entry.dtype)));
  if (entry.shape.size() != 2 || entry.shape[0] < 1 || entry.shape[1] < 1)
    return failed(fmt::format("{}: tensor {} is {}, expected a matrix", origin,
                              quote(entry.name, 160), shape_text(entry.shape)));
  AdapterMatrix m{.name = entry.name,
                  .dtype = entry.dtype,
                  .rows = entry.shape[0],
                  .cols = entry.shape[1],
                  .data = entry.data};
  HADAL_TRY(check_finite(m, origin));
  return m;
}

/// The tensors decide; a configuration that says otherwise belongs to another file.
Status check_rank(const Config& config, const AdapterModule& m, const std::string& origin) {
  HADAL_TRY(const int64_t r, config.integer("r", 1, kMaxRank));
  HADAL_TRY(const Config pattern, config.object("rank_pattern"));
  const std::vector<std::string> keys = pattern.keys();
  if (!std::all_of(keys.begin(), keys.end(), is_plain)) return {};
  HADAL_TRY(const std::optional<double> own, pattern_value(config, "rank_pattern", m.module));
  const double expected = own.value_or(static_cast<double>(r));
  if (static_cast<double>(m.rank()) == expected) return {};
  return failed(fmt::format("{}: tensor {} has rank {}, but {} says {} {:g}", origin, m.a.text(),
                            m.rank(), config.origin(), own ? "in rank_pattern" : "r", expected));
}

/// alpha by rank, or by its root. `rank` is what the tensors have.
Result<double> scale_of(const Config& config, const AdapterModule& m, const std::string& origin) {
  HADAL_TRY(check_rank(config, m, origin));
  HADAL_TRY(const double alpha, config.real("lora_alpha"));
  HADAL_TRY(const std::optional<double> own_alpha,
            pattern_value(config, "alpha_pattern", m.module));
  HADAL_TRY(const bool root, config.boolean("use_rslora", false));
  const auto rank = static_cast<double>(m.rank());
  const double scale = own_alpha.value_or(alpha) / (root ? std::sqrt(rank) : rank);
  if (!(std::abs(scale) <= 1e30))
    return failed(fmt::format("{}: lora_alpha by r is {:g} for {}, expected at most 1e30 in size",
                              config.origin(), scale, quote(m.module)));
  return scale;
}

}  // namespace

std::string AdapterMatrix::text() const {
  return fmt::format("{} [{}, {}]", quote(name, 160), rows, cols);
}

int64_t AdapterFile::largest_rank() const {
  int64_t rank = 0;
  for (const AdapterModule& m : modules_) rank = std::max(rank, m.rank());
  return rank;
}

Status AdapterFile::read_config(const Config& config) {
  HADAL_TRY(check_kind(config));
  HADAL_TRY(base_model_, config.text("base_model_name_or_path", ""));
  return {};
}

Status AdapterFile::read_modules(const Config& config) {
  const std::string origin = file_.path().string();
  HADAL_TRY(const std::vector<SafetensorsEntry> entries, parse_safetensors(file_.bytes(), origin));
  std::map<std::string, std::array<std::optional<AdapterMatrix>, 2>> pairs;
  for (const SafetensorsEntry& entry : entries) {
    HADAL_TRY(const Place place, place_of(entry.name, origin));
    auto& matrix = pairs[place.module][place.is_a ? 0 : 1];
    if (matrix)
      return failed(fmt::format("{}: tensors {} and {} are both {} of {}", origin,
                                quote(matrix->name, 160), quote(entry.name, 160),
                                place.is_a ? "A" : "B", quote(place.module)));
    HADAL_TRY(matrix, matrix_of(entry, origin));
  }
  if (pairs.empty()) return failed(origin + ": holds no tensors");
  for (auto& [module, pair] : pairs) {
    for (const size_t missing : {size_t{0}, size_t{1}})
      if (!pair[missing])
        return failed(fmt::format("{}: {} has {} and no lora_{}", origin, quote(module, 160),
                                  quote(pair[1 - missing]->name, 160), missing == 0 ? "A" : "B"));
    AdapterModule m{.module = module, .a = *pair[0], .b = *pair[1]};
    if (m.a.rows != m.b.cols)
      return failed(fmt::format("{}: {} and {} do not fit: A is [rank, in], B is [out, rank]",
                                origin, m.a.text(), m.b.text()));
    HADAL_TRY(m.scale, scale_of(config, m, origin));
    modules_.push_back(std::move(m));
  }
  return {};
}

Result<std::shared_ptr<const AdapterFile>> AdapterFile::open(const fs::path& folder) {
  const fs::path config_path = folder / kConfigName, tensors_path = folder / kTensorsName;
  std::error_code error;
  if (!fs::exists(folder, error)) return not_found(folder.string() + ": not found");
  if (!fs::exists(config_path, error))
    return failed(fmt::format("{}: no {} in it: expected an adapter's folder, as peft writes it",
                              folder.string(), kConfigName));
  if (!fs::exists(tensors_path, error))
    return failed(fmt::format("{}: no {} in it{}", folder.string(), kTensorsName,
                              fs::exists(folder / "adapter_model.bin", error)
                                  ? "; adapter_model.bin is not read: save it as safetensors"
                                  : ""));
  HADAL_TRY(const std::string text, read_text_file(config_path, kMaxConfigBytes));
  HADAL_TRY(const Config config, Config::parse(text, config_path.string()));
  HADAL_TRY(MappedFile file, MappedFile::open(tensors_path));
  std::shared_ptr<AdapterFile> adapter(new AdapterFile(std::move(file)));
  adapter->path_ = folder;
  HADAL_TRY(adapter->read_config(config));
  HADAL_TRY(adapter->read_modules(config));
  Sha256 sha;
  for (const AdapterModule& m : adapter->modules_) {
    sha.add(m.module).add(std::bit_cast<uint64_t>(m.scale));
    for (const AdapterMatrix* matrix : {&m.a, &m.b})
      sha.add(static_cast<uint64_t>(matrix->dtype))
          .add(static_cast<uint64_t>(matrix->rows))
          .add(static_cast<uint64_t>(matrix->cols))
          .add(matrix->data);
  }
  adapter->digest_ = sha.finish();
  return std::shared_ptr<const AdapterFile>(std::move(adapter));
}

}  // namespace hadal
