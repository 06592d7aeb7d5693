#include "weights/adapters.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <new>

#include "base/floats.h"
#include "base/quant.h"
#include "checkpoint/names.h"
#include "checkpoint/printable.h"

namespace hadal {
namespace {

/// The last part of a module's name, which people know it by.
std::string_view last_of(std::string_view name) { return name.substr(name.rfind('.') + 1); }

/// A matrix that rows of sequences are multiplied by.
bool is_adaptable(const Weight& w) {
  return w.source.uses == HADAL_USE_MATMUL && w.source.batch == 1 && !w.source.transposed &&
         !w.source.name.ends_with("head.weight");
}

/// Why an adapter cannot adapt what it names.
std::string why_not(const std::string& name, const std::deque<Weight>& weights) {
  const std::string_view n = name;
  const auto has = [&](std::string_view part) { return n.find(part) != std::string_view::npos; };
  if (has("kv_b_proj") || has("k_b_proj") || has("v_b_proj"))
    return "which Hadal absorbs: its halves are multiplied into queries and results, and keys and "
           "values are never made";
  if (has(".experts")) return "which belongs to routed experts; adapters of those are not built";
  if (has("wo_a.")) return "which is multiplied in groups; adapters of those are not built";
  if (has("embed")) return "which is looked up and not multiplied";
  if (n.ends_with("head.weight")) return "the head, which is multiplied once for many sequences";
  std::vector<std::string> known;
  for (const Weight& w : weights)
    if (is_adaptable(w) && w.source.name.ends_with(".weight")) {
      const std::string stem = w.source.name.substr(0, w.source.name.size() - 7);
      if (std::string last(last_of(stem));
          std::find(known.begin(), known.end(), last) == known.end())
        known.push_back(std::move(last));
    }
  return "which the model does not have; it has, for instance, " + listed(known);
}

/// Encodes a number if the type holds it exactly.
template <typename T>
bool put_exact(const std::vector<float>& values, T (*encode)(float), float (*decode)(T),
               std::vector<std::byte>& out) {
  out.resize(values.size() * sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    const T bits = encode(values[i]);
    if (decode(bits) != values[i]) return false;
    std::memcpy(out.data() + i * sizeof(T), &bits, sizeof(T));
  }
  return true;
}

/// The bytes of values in a type that holds them exactly: `dtype`, else F32, which it then becomes.
std::vector<std::byte> encoded(const std::vector<float>& values, DType& dtype) {
  std::vector<std::byte> out;
  if (dtype == HADAL_F16 && put_exact<uint16_t>(values, f32_to_f16, f16_to_f32, out)) return out;
  if (dtype == HADAL_BF16 && put_exact<uint16_t>(values, f32_to_bf16, bf16_to_f32, out)) return out;
  dtype = HADAL_F32;
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

std::vector<float> decoded(const AdapterMatrix& m) {
  std::vector<float> values(static_cast<size_t>(m.rows * m.cols));
  HADAL_CHECK(decode_to_f32(m.dtype, m.data.data(), m.rows * m.cols, values.data()));
  return values;
}

/// A [rank, in], padded to `rank` rows.
std::vector<float> padded_a(const AdapterModule& m, int64_t rank) {
  std::vector<float> values = decoded(m.a);
  values.resize(static_cast<size_t>(rank * m.a.cols), 0.0f);
  return values;
}

/// scale B [out, rank], padded to `rank` columns, its rows in the order of the matrix's own.
Result<std::vector<float>> padded_b(const AdapterModule& m, int64_t rank, int64_t paired_rows,
                                    const std::string& origin) {
  const std::vector<float> from = decoded(m.b);
  std::vector<float> to(static_cast<size_t>(m.b.rows * rank), 0.0f);
  const int64_t half = paired_rows / 2;
  for (int64_t row = 0; row < m.b.rows; ++row) {
    int64_t at = row;
    if (paired_rows > 0) {
      const int64_t i = row % paired_rows;
      at = row - i + (i < half ? 2 * i : 2 * (i - half) + 1);
    }
    for (int64_t r = 0; r < m.b.cols; ++r) {
      const double exact = static_cast<double>(from[static_cast<size_t>(row * m.b.cols + r)]);
      const auto value = static_cast<float>(exact * m.scale);
      if (!std::isfinite(value))
        return failed(origin + ": tensor " + m.b.text() + ": times the factor " +
                      std::to_string(m.scale) + " it is beyond fp32");
      to[static_cast<size_t>(at * rank + r)] = value;
    }
  }
  return to;
}

/// One type for the pieces of a bank: that of all of them, else F32.
DType common_dtype(const std::vector<const AdapterModule*>& parts,
                   AdapterMatrix AdapterModule::* which) {
  DType dtype = HADAL_DTYPE_NONE;
  for (const AdapterModule* part : parts) {
    if (!part) continue;
    const DType own = (part->*which).dtype;
    if (dtype != HADAL_DTYPE_NONE && own != dtype) return HADAL_F32;
    dtype = own;
  }
  return dtype;
}

}  // namespace

Result<std::unique_ptr<AdapterBanks>> AdapterBanks::plan(
    const Device& device, std::deque<Weight>& weights, std::string_view model_type,
    std::vector<std::shared_ptr<const AdapterFile>> adapters) try {
  std::unique_ptr<AdapterBanks> banks(new AdapterBanks);
  banks->adapters_ = std::move(adapters);
  std::map<std::string, Weight*, std::less<>> by_name;
  for (Weight& w : weights)
    if (is_adaptable(w)) by_name[w.source.name] = &w;
  std::map<std::string, Parts> wanted;  // sorted: the same banks in the same order
  for (size_t i = 0; i < banks->adapters_.size(); ++i) {
    if (!banks->adapters_[i]) continue;
    const std::string origin = banks->adapters_[i]->path().string();
    for (const AdapterModule& m : banks->adapters_[i]->modules()) {
      const std::string name = adapted_name(model_type, m.module);
      const auto found = by_name.find(name);
      if (found == by_name.end())
        return failed(origin + ": tensor " + quote(m.a.name, 160) + " targets " +
                      quote(m.module, 120) + ", " + why_not(name, weights));
      const WeightSource& s = found->second->source;
      if (found->second->divided)
        return failed(origin + ": tensor " + quote(m.a.name, 160) + " targets " + name +
                      ", which is divided over ranks: adapters need a model that one rank runs");
      if (m.a.cols != s.cols || m.b.rows != s.rows)
        return failed(origin + ": " + m.a.text() + " and " + m.b.text() + " do not fit " + name +
                      " [" + std::to_string(s.rows) + ", " + std::to_string(s.cols) +
                      "]: expected A [rank, " + std::to_string(s.cols) + "] and B [" +
                      std::to_string(s.rows) + ", rank]");
      Parts& parts = wanted[name];
      parts.resize(banks->adapters_.size());
      if (parts[i])
        return failed(origin + ": " + quote(parts[i]->module) + " and " + quote(m.module) +
                      " are both " + name);
      parts[i] = &m;
    }
  }
  for (const auto& [name, parts] : wanted)
    HADAL_TRY(banks->add_bank(*by_name.find(name)->second, parts));
  HADAL_TRY(WeightLoader loader, WeightLoader::plan(device, banks->weights_, WeightMode::kNative));
  banks->loader_ = std::make_unique<WeightLoader>(std::move(loader));
  for (Bank& bank : banks->banks_) bank.operands = {.a = bank.a->tensor, .b = bank.b->tensor};
  return banks;
} catch (const std::bad_alloc&) {
  return memory_error("no memory left for the adapters");
}

std::span<std::byte> AdapterBanks::keep(std::vector<std::byte> bytes) {
  return kept_.emplace_back(std::move(bytes));
}

std::span<const std::byte> AdapterBanks::zeros(uint64_t bytes) {
  if (zeros_.size() < bytes) zeros_ = keep(std::vector<std::byte>(bytes));
  return zeros_.first(bytes);
}

Weight& AdapterBanks::bank_weight(const std::string& name, int64_t rows, int64_t cols,
                                  size_t count) {
  Weight& w = weights_.emplace_back();
  w.source.name = name;
  w.source.uses = HADAL_USE_MATMUL;
  w.source.batch = static_cast<int64_t>(count);
  w.source.rows = rows;
  w.source.cols = cols;
  return w;
}

Status AdapterBanks::add_bank(Weight& matrix, const Parts& parts) {
  int64_t rank = 0;
  for (const AdapterModule* part : parts) rank = part ? std::max(rank, part->rank()) : rank;
  Weight& a = bank_weight(matrix.source.name + " (lora_A)", rank, matrix.source.cols, parts.size());
  Weight& b = bank_weight(matrix.source.name + " (lora_B)", matrix.source.rows, rank, parts.size());
  a.source.dtype = common_dtype(parts, &AdapterModule::a);
  b.source.dtype = common_dtype(parts, &AdapterModule::b);
  // B with its factor may need a wider type, and then all of the bank has it.
  std::vector<std::vector<float>> scaled(parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!parts[i]) continue;
    HADAL_TRY(scaled[i],
              padded_b(*parts[i], rank, matrix.paired_rows, adapters_[i]->path().string()));
    encoded(scaled[i], b.source.dtype);
  }
  const auto bytes_of = [](const WeightSource& s) {
    return static_cast<uint64_t>(s.rows * row_bytes(s.dtype, s.cols).value_or(0));
  };
  for (size_t i = 0; i < parts.size(); ++i) {
    const AdapterModule* part = parts[i];
    WeightSource::Piece piece_a{{}, a.source.rows, {}}, piece_b{{}, b.source.rows, {}};
    if (!part) {
      piece_a.data = zeros(bytes_of(a.source));
      piece_b.data = zeros(bytes_of(b.source));
    } else {
      const bool as_stored = part->rank() == rank && part->a.dtype == a.source.dtype;
      piece_a.data =
          as_stored
              ? part->a.data
              : std::span<const std::byte>(keep(encoded(padded_a(*part, rank), a.source.dtype)));
      piece_b.data = keep(encoded(scaled[i], b.source.dtype));
    }
    a.source.pieces.push_back(piece_a);
    b.source.pieces.push_back(piece_b);
  }
  const auto count = static_cast<int64_t>(parts.size());
  a.tensor = make_tensor(a.source.dtype, HADAL_SPACE_WEIGHT, HADAL_DIM_CONST,
                         {count, rank, matrix.source.cols});
  b.tensor = make_tensor(b.source.dtype, HADAL_SPACE_WEIGHT, HADAL_DIM_CONST,
                         {count, matrix.source.rows, rank});
  banks_.push_back({.matrix = &matrix, .a = &a, .b = &b, .operands = {}});
  return {};
}

Status AdapterBanks::load() {
  HADAL_TRY(loader_->load({}));
  for (Bank& bank : banks_) bank.operands = {.a = bank.a->tensor, .b = bank.b->tensor};
  return {};
}

void AdapterBanks::attach() const {
  for (const Bank& bank : banks_) bank.matrix->adapters = &bank.operands;
}

void AdapterBanks::detach() const {
  for (const Bank& bank : banks_) bank.matrix->adapters = nullptr;
}

std::string AdapterBanks::first_unused(const std::set<const AdapterBank*>& used) const {
  for (const Bank& bank : banks_)
    if (!used.contains(&bank.operands)) return bank.matrix->source.name;
  return "";
}

}  // namespace hadal
