#include "quantize/source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "checkpoint/printable.h"

namespace hadal::quantize {
namespace {

/// The official name of a slot. The two halves of kv_b have the name of the whole; in a GGUF they
/// are tensors of their own.
std::string slot_name(const WeightSource& source) {
  constexpr std::string_view kWhole = "kv_b_proj.weight";
  if (!source.name.ends_with(kWhole)) return source.name;
  return source.name.substr(0, source.name.size() - kWhole.size()) +
         (source.transposed ? "k_b_proj.weight" : "v_b_proj.weight");
}

std::vector<int64_t> shape_of(const WeightSource& w, const TensorInfo* whole) {
  if (whole && whole->elements() == w.batch * w.rows * w.cols) return whole->shape;
  if (w.batch > 1 || w.pieces.size() > 1) return {w.batch, w.rows, w.cols};
  return {w.rows, w.cols};
}

/// llama3's scaling has no keys in a GGUF: factors that divide the frequencies stand for it. The
/// factor is the one whose quotient, rounded, is the frequency itself, as far as there is one.
Result<SourceTensor> rope_factors(const Config& config, const std::vector<float>& scaled) {
  Config plain = config;
  plain.set("rope_scaling", "null");
  const auto dims = static_cast<int64_t>(2 * scaled.size());
  HADAL_TRY(const RopeSpec rope, RopeSpec::from_config(plain, dims));
  const std::vector<float> base = rope.inv_freq();
  SourceTensor t{.name = "rope_freqs.weight", .shape = {dims / 2}};
  for (size_t i = 0; i < scaled.size(); ++i) {
    const float middle = base[i] / scaled[i];
    float factor = middle;
    for (const float up : {INFINITY, -INFINITY}) {
      float next = middle;
      for (int step = 0; step < 8 && base[i] / factor != scaled[i]; ++step) {
        next = std::nextafter(next, up);
        if (base[i] / next == scaled[i]) factor = next;
      }
    }
    t.values.push_back(factor);
  }
  t.weight.cols = dims / 2;
  return t;
}

int64_t heads_of(std::string_view name, const Config& config) {
  const bool q = name.find(".attn_q.") != std::string_view::npos,
             k = name.find(".attn_k.") != std::string_view::npos;
  if (!q && !k) return 0;
  const auto heads = config.integer("num_attention_heads", 1, 65536, 1);
  const auto kv = config.integer("num_key_value_heads", 1, 65536, heads ? *heads : 1);
  return q ? (heads ? *heads : 0) : (kv ? *kv : 0);
}

}  // namespace

int64_t SourceTensor::rows() const {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

bool SourceTensor::plain() const {
  return values.empty() && !weight.transposed && columns() == weight.cols &&
         (paired_heads == 0 || shape.size() > 1);
}

Result<std::vector<SourceTensor>> folder_tensors(const Checkpoint& checkpoint, Model& model,
                                                 const Architecture& architecture) {
  const Config& config = checkpoint.config();
  HADAL_TRY(const bool interleaved, config.boolean("rope_interleave", architecture.latent));
  HADAL_TRY(const Config scaling, config.object("rope_scaling"));
  HADAL_TRY(const std::string rope, scaling.text("rope_type", ""));
  std::vector<SourceTensor> out;
  for (const Weight& slot : model.weights()) {
    if (!slot.table.empty()) {
      if (rope != "llama3" || slot.source.name != "inv_freq") continue;
      HADAL_TRY(SourceTensor factors, rope_factors(config, slot.table));
      out.push_back(std::move(factors));
      continue;
    }
    SourceTensor t;
    t.weight = slot.source;
    t.name = gguf_name(architecture, slot_name(slot.source));
    if (t.name.empty())
      return failed(fmt::format("{}: tensor {} has no name in a GGUF of architecture {}",
                                checkpoint.path().string(), quote(slot.source.name),
                                architecture.gguf));
    t.shape = shape_of(t.weight, checkpoint.find(slot.source.name));
    if (architecture.interleaved && !architecture.latent && !interleaved)
      t.paired_heads = heads_of(t.name, config);
    out.push_back(std::move(t));
  }
  return out;
}

std::vector<SourceTensor> gguf_tensors(const Checkpoint& checkpoint) {
  std::vector<SourceTensor> out;
  for (const TensorInfo& info : checkpoint.tensors()) {
    SourceTensor t{.name = info.file_name, .shape = info.shape};
    t.weight.name = info.file_name;
    t.weight.dtype = info.dtype;
    t.weight.cols = t.columns();
    t.weight.rows = t.rows();
    t.weight.pieces.push_back({info.data, t.rows(), {}});
    out.push_back(std::move(t));
  }
  return out;
}

RowReader::RowReader(const SourceTensor& tensor) : tensor_(tensor) {
  int64_t rows = 0;
  for (const WeightSource::Piece& piece : tensor.weight.pieces) ends_.push_back(rows += piece.rows);
}

RowReader::Place RowReader::place_of(int64_t row) const {
  if (tensor_.paired_heads > 0 && tensor_.shape.size() > 1) {
    const int64_t dim = tensor_.rows() / tensor_.paired_heads, in_head = row % dim;
    row += in_head % 2 * (dim / 2) + in_head / 2 - in_head;
  }
  const auto at = std::upper_bound(ends_.begin(), ends_.end(), row) - ends_.begin();
  return {&tensor_.weight.pieces[static_cast<size_t>(at)],
          row - (at > 0 ? ends_[static_cast<size_t>(at - 1)] : 0)};
}

bool RowReader::read(int64_t row, float* out) {
  const WeightSource& w = tensor_.weight;
  const int64_t columns = tensor_.columns();
  if (!tensor_.values.empty()) {
    std::copy_n(tensor_.values.data() + row * columns, columns, out);
    return true;
  }
  if (w.transposed) {  // the stored matrix [cols, rows] of the one that `row` belongs to
    const int64_t matrix = row / w.rows;
    if (matrix != turned_matrix_) {
      turned_.resize(static_cast<size_t>(w.rows * w.cols));
      for (int64_t i = 0; i < w.cols; ++i) {
        const Place place = place_of(matrix * w.cols + i);
        if (!decode_row(w, *place.piece, place.row, turned_.data() + i * w.rows)) return false;
      }
      turned_matrix_ = matrix;
    }
    for (int64_t i = 0; i < w.cols; ++i)
      out[i] = turned_[static_cast<size_t>(i * w.rows + row % w.rows)];
    return true;
  }
  if (columns != w.cols) {  // a table that its slot holds as one row
    std::vector<float> whole(static_cast<size_t>(w.cols));
    if (!decode_row(w, w.pieces[0], 0, whole.data())) return false;
    std::copy_n(whole.data() + row * columns, columns, out);
    return true;
  }
  const Place place = place_of(row);
  if (!decode_row(w, *place.piece, place.row, out)) return false;
  if (tensor_.paired_heads > 0 && tensor_.shape.size() == 1) {
    const std::vector<float> halves(out, out + columns);
    const int64_t dim = columns / tensor_.paired_heads;
    for (int64_t i = 0; i < columns; ++i)
      out[i] = halves[static_cast<size_t>(i - i % dim + i % 2 * (dim / 2) + i % dim / 2)];
  }
  return true;
}

std::span<const std::byte> RowReader::stored(int64_t row) const {
  const Place place = place_of(row);
  const auto bytes =
      static_cast<size_t>(row_bytes(tensor_.weight.dtype, tensor_.columns()).value_or(0));
  return place.piece->data.subspan(static_cast<size_t>(place.row) * bytes, bytes);
}

std::span<const std::byte> RowReader::stored_scales(int64_t row) const {
  const WeightSource& w = tensor_.weight;
  const Place place = place_of(row);
  const int64_t blocks = (w.cols + w.scale_block_cols - 1) / w.scale_block_cols;
  const auto bytes = static_cast<size_t>(row_bytes(w.scale_dtype, blocks).value_or(0));
  const int64_t at = (place.piece->scale_row + place.row) / w.scale_block_rows;
  return place.piece->scales.subspan(static_cast<size_t>(at) * bytes, bytes);
}

}  // namespace hadal::quantize
