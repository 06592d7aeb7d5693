// Operands, weights with random blocks, and slices of cases.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/floats.h"
#include "base/quant.h"
#include "kit.h"

namespace hadal::conformance {

uint64_t Random::bits() {
  uint64_t z = state_ += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

int64_t Random::range(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(bits() % static_cast<uint64_t>(high - low + 1));
}

float Random::normal() {
  // The sum of four uniform numbers has variance 4 / 12.
  const uint64_t x = bits();
  double sum = -2;
  for (int i = 0; i < 4; ++i) sum += static_cast<double>((x >> (16 * i)) & 0xffff) / 65536.0;
  return static_cast<float>(sum * std::sqrt(3.0));
}

std::vector<float> Random::normals(int64_t count, float scale) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = normal() * scale;
  return values;
}

std::vector<int32_t> Random::shuffled(int64_t count) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  for (size_t i = ids.size(); i > 1; --i)
    std::swap(ids[i - 1], ids[static_cast<size_t>(range(0, static_cast<int64_t>(i) - 1))]);
  return ids;
}

int64_t Operand::count() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

namespace {

template <typename T>
Bytes bytes_of(const std::vector<T>& values) {
  Bytes bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// One block whose values are all finite and whose largest lies between 0.01 and 8, found by trying:
// this needs to know nothing of the format. Plain types are written from numbers instead.
void random_block(Random& random, const DTypeInfo& info, std::byte* block) {
  std::vector<float> values(static_cast<size_t>(info.block_values));
  for (int attempt = 0; attempt < 100000; ++attempt) {
    for (int32_t i = 0; i < info.block_bytes; ++i)
      block[i] = static_cast<std::byte>(random.bits() >> 32);
    decode_to_f32(info.dtype, block, info.block_values, values.data());
    float largest = 0;
    bool finite = true;
    for (const float v : values) {
      finite = finite && std::isfinite(v);
      largest = std::max(largest, std::fabs(v));
    }
    if (finite && largest >= 0.01f && largest <= 8.0f) return;
  }
}

void random_row(Random& random, const DTypeInfo& info, int64_t cols, std::byte* row) {
  const auto put = [&](int64_t i, auto value) {
    std::memcpy(row + i * static_cast<int64_t>(sizeof value), &value, sizeof value);
  };
  for (int64_t i = 0; i < cols / info.block_values; ++i) {
    const float v = random.normal();
    const auto whole = static_cast<int64_t>(v * 3);
    const auto natural = static_cast<uint64_t>(std::abs(whole));
    switch (info.dtype) {
      case HADAL_F32:
        put(i, v);
        break;
      case HADAL_F16:
        put(i, f32_to_f16(v));
        break;
      case HADAL_BF16:
        put(i, f32_to_bf16(v));
        break;
      case HADAL_F64:
        put(i, static_cast<double>(v));
        break;
      case HADAL_I8:
        put(i, static_cast<int8_t>(whole));
        break;
      case HADAL_I16:
        put(i, static_cast<int16_t>(whole));
        break;
      case HADAL_I32:
        put(i, static_cast<int32_t>(whole));
        break;
      case HADAL_I64:
        put(i, whole);
        break;
      case HADAL_U8:
        put(i, static_cast<uint8_t>(natural));
        break;
      case HADAL_U16:
        put(i, static_cast<uint16_t>(natural));
        break;
      case HADAL_U32:
        put(i, static_cast<uint32_t>(natural));
        break;
      case HADAL_U64:
        put(i, natural);
        break;
      default:
        random_block(random, info, row + i * info.block_bytes);
        break;
    }
  }
}

float decode_scale(const std::byte* scales, uint32_t dtype, int64_t i) {
  if (dtype == HADAL_F8_E8M0) return e8m0_to_f32(static_cast<uint8_t>(scales[i]));
  float value = 0;
  const int64_t size = dtype_info(static_cast<DType>(dtype))->block_bytes;
  decode_to_f32(static_cast<DType>(dtype), scales + i * size, 1, &value);
  return value;
}

// Scales of one piece: [row blocks, column blocks], numbers around 1, powers of two where the type
// holds nothing else.
void random_scales(Random& random, const WeightShape& shape, WeightData::Source& source,
                   size_t skew) {
  const int64_t size = dtype_info(static_cast<DType>(shape.scale_dtype))->block_bytes;
  const int64_t row_blocks = (source.rows + shape.block_rows - 1) / shape.block_rows;
  const int64_t col_blocks = (shape.cols + shape.block_cols - 1) / shape.block_cols;
  source.scale_row_stride = col_blocks * size;
  source.scale_bytes.resize(skew + static_cast<size_t>(row_blocks * source.scale_row_stride));
  for (int64_t i = 0; i < row_blocks * col_blocks; ++i) {
    const float v = std::exp2(random.normal());
    std::byte* to = source.scale_bytes.data() + skew + i * size;
    if (shape.scale_dtype == HADAL_F8_E8M0) {
      *to = static_cast<std::byte>(random.range(125, 129));
    } else {
      const Bytes encoded = encode({v}, shape.scale_dtype);
      std::memcpy(to, encoded.data(), encoded.size());
    }
  }
}

}  // namespace

void decode_values(WeightData& w) {
  const hadal_weight_desc& d = w.desc;
  w.values.clear();
  for (const WeightData::Source& source : w.sources)
    for (int64_t r = 0; r < source.rows; ++r) {
      w.values.resize(w.values.size() + static_cast<size_t>(d.cols));
      float* row = w.values.data() + w.values.size() - d.cols;
      decode_to_f32(static_cast<DType>(d.dtype),
                    source.bytes.data() + w.skew + r * source.row_stride, d.cols, row);
      if (source.scale_bytes.empty()) continue;
      const std::byte* scales =
          source.scale_bytes.data() + w.skew + r / d.scale_block_rows * source.scale_row_stride;
      for (int64_t c = 0; c < d.cols; ++c)
        row[c] *= decode_scale(scales, d.scale_dtype, c / d.scale_block_cols);
    }
}

Bytes encode(const std::vector<float>& values, uint32_t dtype) {
  if (dtype == HADAL_F32) return bytes_of(values);
  std::vector<uint16_t> small;
  small.reserve(values.size());
  for (const float v : values) small.push_back(dtype == HADAL_F16 ? f32_to_f16(v) : f32_to_bf16(v));
  return bytes_of(small);
}

std::vector<float> decode_all(const Operand& o) {
  std::vector<float> values(static_cast<size_t>(o.count()));
  decode_to_f32(static_cast<DType>(o.dtype), o.data.data(), o.count(), values.data());
  return values;
}

float decode(const Operand& o, int64_t index) {
  float value = 0;
  const int64_t size = dtype_info(static_cast<DType>(o.dtype))->block_bytes;
  decode_to_f32(static_cast<DType>(o.dtype), o.data.data() + index * size, 1, &value);
  return value;
}

Operand floats(std::vector<int64_t> shape, uint32_t row_dim, const std::vector<float>& values) {
  Operand o;
  o.dtype = HADAL_F32;
  o.shape = std::move(shape);
  o.row_dim = row_dim;
  o.data = bytes_of(values);
  return o;
}

Operand ints(std::vector<int64_t> shape, uint32_t row_dim, const std::vector<int32_t>& values) {
  Operand o;
  o.dtype = HADAL_I32;
  o.shape = std::move(shape);
  o.row_dim = row_dim;
  o.data = bytes_of(values);
  return o;
}

Operand output(uint32_t dtype, std::vector<int64_t> shape, uint32_t row_dim) {
  Operand o;
  o.dtype = dtype;
  o.shape = std::move(shape);
  o.row_dim = row_dim;
  return o;
}

Operand per_row(Operand o, int64_t rows) {
  o.per_row = rows;
  return o;
}

Operand weight_operand(std::shared_ptr<const WeightData> weight, std::vector<int64_t> shape) {
  Operand o;
  o.dtype = weight->desc.dtype;
  o.shape = std::move(shape);
  o.weight = std::move(weight);
  return o;
}

std::vector<uint32_t> weight_dtypes() {
  std::vector<uint32_t> types;
#define HADAL_DTYPE(name, code, values, bytes, ggml, st) types.push_back(HADAL_##name);
#include "hadal/dtypes.inc"
#undef HADAL_DTYPE
  std::erase(types, static_cast<uint32_t>(HADAL_BOOL));
  return types;
}

bool is_quantised(uint32_t dtype) {
  return dtype != HADAL_F32 && dtype != HADAL_F16 && dtype != HADAL_BF16 && dtype != HADAL_F64;
}

int64_t block_of(uint32_t dtype) { return dtype_info(static_cast<DType>(dtype))->block_values; }

std::shared_ptr<const WeightData> make_weight(Random& random, uint32_t dtype,
                                              const WeightShape& shape) {
  auto w = std::make_shared<WeightData>();
  const DTypeInfo& info = *dtype_info(static_cast<DType>(dtype));
  w->desc.size = sizeof w->desc;
  w->desc.dtype = dtype;
  w->desc.uses = shape.uses;
  w->desc.keeps_source = random.coin() ? 1 : 0;
  w->desc.batch = shape.batch;
  w->desc.rows = shape.rows;
  w->desc.cols = shape.cols;
  w->desc.scale_dtype = shape.scale_dtype;
  w->desc.scale_block_rows = shape.block_rows;
  w->desc.scale_block_cols = shape.block_cols;
  w->skew = static_cast<size_t>(random.range(0, 3));  // sources may be unaligned
  int64_t left = shape.batch * shape.rows;
  for (uint32_t p = 0; p < shape.pieces; ++p) {
    WeightData::Source source;
    source.rows =
        p + 1 == shape.pieces
            ? left
            : std::min(left, std::max<int64_t>(1, shape.batch * shape.rows / shape.pieces));
    left -= source.rows;
    const int64_t row = *row_bytes(info.dtype, shape.cols);
    source.row_stride = row + (random.coin() ? random.range(1, 40) : 0);  // a slice of wider rows
    source.bytes.assign(w->skew + static_cast<size_t>(source.rows * source.row_stride),
                        std::byte{0xff});
    for (int64_t r = 0; r < source.rows; ++r)
      random_row(random, info, shape.cols, source.bytes.data() + w->skew + r * source.row_stride);
    if (shape.scale_dtype != HADAL_DTYPE_NONE) random_scales(random, shape, source, w->skew);
    w->sources.push_back(std::move(source));
  }
  decode_values(*w);
  return w;
}

namespace {

/// A weight of one piece, rows one behind the other.
std::shared_ptr<WeightData> one_piece(uint32_t dtype, uint32_t uses, int64_t rows, int64_t cols,
                                      const Bytes& bytes) {
  auto w = std::make_shared<WeightData>();
  w->desc.size = sizeof w->desc;
  w->desc.dtype = dtype;
  w->desc.uses = uses;
  w->desc.keeps_source = 1;
  w->desc.batch = 1;
  w->desc.rows = rows;
  w->desc.cols = cols;
  w->skew = static_cast<size_t>(cols % 4);
  WeightData::Source source;
  source.rows = rows;
  source.row_stride = *row_bytes(static_cast<DType>(dtype), cols);
  source.bytes.resize(w->skew);
  source.bytes.insert(source.bytes.end(), bytes.begin(), bytes.end());
  w->sources.push_back(std::move(source));
  return w;
}

}  // namespace

std::shared_ptr<const WeightData> make_vector(const std::vector<float>& values) {
  auto w = one_piece(HADAL_F32, HADAL_USE_VECTOR, 1, static_cast<int64_t>(values.size()),
                     bytes_of(values));
  w->values = values;
  return w;
}

std::shared_ptr<const WeightData> make_table(const std::vector<int32_t>& values, int64_t cols,
                                             uint32_t dtype) {
  const auto rows = static_cast<int64_t>(values.size()) / cols;
  const std::vector<int64_t> wide(values.begin(), values.end());
  return one_piece(dtype, HADAL_USE_GATHER, rows, cols,
                   dtype == HADAL_I64 ? bytes_of(wide) : bytes_of(values));
}

Case slice(const Case& c, int64_t first, int64_t count) {
  Case part = c;
  part.rows[c.sliced] = count;
  part.spare = {};
  part.name += ", rows " + std::to_string(first) + " + " + std::to_string(count) + " alone";
  for (Operand& o : part.operands) {
    if (!o.present() || o.row_dim != c.sliced || o.shape.empty()) continue;
    const size_t row = o.data.empty() ? 0 : o.data.size() / static_cast<size_t>(o.shape[0]);
    o.shape[0] = o.per_row * count;
    if (o.data.empty()) continue;
    const auto begin =
        o.data.begin() + static_cast<std::ptrdiff_t>(row * static_cast<size_t>(o.per_row * first));
    o.data = Bytes(
        begin, begin + static_cast<std::ptrdiff_t>(row * static_cast<size_t>(o.per_row * count)));
  }
  return part;
}

namespace {

using MakeCases = void (*)(Random&, bool, std::vector<Case>&);
constexpr std::pair<uint32_t, MakeCases> kMakers[] = {
    {HADAL_OP_EMBED, embed_cases},
    {HADAL_OP_MATMUL, matmul_cases},
    {HADAL_OP_NORM, norm_cases},
    {HADAL_OP_ROPE, rope_cases},
    {HADAL_OP_SWIGLU, swiglu_cases},
    {HADAL_OP_GATED_MATMUL, gated_matmul_cases},
    {HADAL_OP_ADD, add_cases},
    {HADAL_OP_KV_WRITE, kv_write_cases},
    {HADAL_OP_GQA_ATTENTION, attention_cases},
    {HADAL_OP_GATHER_ROWS, gather_cases},
    {HADAL_OP_COPY_BLOCKS, copy_blocks_cases},
    {HADAL_OP_CONVERT, convert_cases},
    {HADAL_OP_LATENT_ATTENTION, latent_cases},
    {HADAL_OP_ROUTER, router_cases},
    {HADAL_OP_MOE_SORT, moe_sort_cases},
    {HADAL_OP_GROUPED_MATMUL, grouped_matmul_cases},
    {HADAL_OP_MOE_COMBINE, moe_combine_cases},
    {HADAL_OP_MOE_EXPERTS, moe_experts_cases},
    {HADAL_OP_MLA_ATTENTION, mla_attention_cases},
    {HADAL_OP_INDEX_TOPK, index_topk_cases},
    {HADAL_OP_COMPRESS, compress_cases},
    {HADAL_OP_HC_PRE, hc_pre_cases},
    {HADAL_OP_HC_POST, hc_post_cases},
    {HADAL_OP_INDEX_BLOCKS, index_blocks_cases},
    {HADAL_OP_ENGRAM_GATE, engram_gate_cases},
    {HADAL_OP_LORA_ADD, lora_add_cases},
    {HADAL_OP_SAMPLE, sample_cases},
};

/// Products and numbers that a case takes, about: of a weight with every row, of the entries of a
/// plane with every query.
int64_t work_of(const Case& c) {
  int64_t rows = 1, largest = 0, work = 0;
  for (const Operand& o : c.operands) {
    if (!o.present() || o.weight || o.plane) continue;
    rows = std::max(rows, o.shape.front());
    largest = std::max(largest, o.count());
    work += o.count();
  }
  for (const Operand& o : c.operands) {
    if (o.weight) work += static_cast<int64_t>(o.weight->values.size()) * rows;
    if (o.plane) work += o.shape[0] * o.shape[1] * largest;
  }
  return work;
}
constexpr int64_t kLightWork = 50000;

}  // namespace

std::vector<Case> make_cases(uint32_t id, uint64_t seed, bool quick, bool light) {
  std::vector<Case> cases;
  Random random(seed * 1000003 + id);
  for (const auto& [known, make] : kMakers)
    if (known == id) make(random, quick, cases);
  for (Case& c : cases) c.id = id;
  if (light) std::erase_if(cases, [](const Case& c) { return work_of(c) > kLightWork; });
  return cases;
}

}  // namespace hadal::conformance
