#include "quantize/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>

#include "base/new_file.h"
#include "base/quantize.h"
#include "base/thread_pool.h"
#include "checkpoint/gguf_writer.h"
#include "checkpoint/printable.h"
#include "models/model.h"
#include "quantize/metadata.h"
#include "quantize/source.h"

namespace hadal::quantize {
namespace {

/// What is encoded between two writes, and by one thread at a time, in numbers.
constexpr int64_t kWindow = int64_t{8} << 20, kChunk = int64_t{128} << 10;

constexpr int64_t kMxfp4Values = 32, kMxfp4Bytes = 17;

/// A tensor and the type that it will have.
struct Job {
  SourceTensor tensor;
  DType dtype = HADAL_F32;

  [[nodiscard]] int64_t row_bytes() const {
    return hadal::row_bytes(dtype, tensor.columns()).value_or(0);
  }
  [[nodiscard]] int64_t bytes() const { return row_bytes() * tensor.rows(); }
};

/// A file's plan: its tensors, and its header.
struct Plan {
  std::vector<Job> jobs;
  GgufWriter header;
  std::unique_ptr<Model> model;  ///< of a folder, bound
  int64_t fallbacks = 0;
};

/// Published FP4, whose pairs of columns share a byte: MXFP4 has the two halves of a block in it.
void pack_mxfp4(const RowReader& reader, int64_t row, int64_t columns, uint8_t* out) {
  const auto* codes = reinterpret_cast<const uint8_t*>(reader.stored(row).data());
  const auto* scales = reinterpret_cast<const uint8_t*>(reader.stored_scales(row).data());
  const auto code = [&](int64_t i) { return codes[i / 2] >> (4 * (i % 2)) & 15; };
  for (int64_t block = 0; block < columns / kMxfp4Values; ++block, out += kMxfp4Bytes) {
    out[0] = scales[block];
    for (int64_t i = 0; i < 16; ++i) {
      const int64_t at = block * kMxfp4Values + i;
      out[1 + i] = static_cast<uint8_t>(code(at) | code(at + 16) << 4);
    }
  }
}

/// Encodes rows [first, first + count) to `out`; "" or what is wrong.
std::string encode_rows(const Job& job, int64_t first, int64_t count, uint8_t* out) {
  const SourceTensor& t = job.tensor;
  const int64_t columns = t.columns(), stride = job.row_bytes();
  const bool kept = t.plain() && job.dtype == t.weight.dtype;
  const bool packed = job.dtype == HADAL_MXFP4 && t.weight.dtype == HADAL_F4_E2M1;
  RowReader reader(t);
  std::vector<float> values(static_cast<size_t>(columns));
  for (int64_t row = first; row < first + count; ++row, out += stride) {
    if (kept) {
      const auto bytes = reader.stored(row);
      std::copy_n(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), out);
      continue;
    }
    if (packed) {
      pack_mxfp4(reader, row, columns, out);
      continue;
    }
    if (!reader.read(row, values.data())) return "its type holds no numbers";
    if (std::any_of(values.begin(), values.end(), [](float v) { return !std::isfinite(v); }))
      return fmt::format("row {} holds values that are no finite numbers", row);
    if (!encode_from_f32(job.dtype, values.data(), columns, out))
      return fmt::format("row {} holds a value too large for {}", row, dtype_name(job.dtype));
  }
  return "";
}

Error interrupted() { return {ErrorCode::kInterrupted, "interrupted; nothing was written"}; }

/// Writes all tensors behind the header.
class DataWriter {
 public:
  DataWriter(NewFile& file, ThreadPool& pool, const Options& options, uint64_t total)
      : file_(file), pool_(pool), options_(options), total_(total) {}

  Status write(const Job& job) {
    const SourceTensor& t = job.tensor;
    const int64_t rows = t.rows(), columns = t.columns();
    // Rows of one matrix of a turned tensor are encoded together: it is decoded as a whole.
    const int64_t together = t.weight.transposed ? t.weight.rows : 1;
    const auto units = [&](int64_t values) {
      return std::max<int64_t>(1, values / (columns * together)) * together;
    };
    const int64_t chunk = units(kChunk), window = std::max(chunk, units(kWindow));
    for (int64_t first = 0; first < rows; first += window)
      HADAL_TRY(write_rows(job, first, std::min(window, rows - first), chunk));
    const std::vector<std::byte> padding(static_cast<size_t>(GgufWriter::padding(job.bytes())));
    return file_.write(padding);
  }

 private:
  Status write_rows(const Job& job, int64_t first, int64_t count, int64_t chunk) {
    if (options_.stop && options_.stop->load(std::memory_order_relaxed)) return interrupted();
    const int64_t stride = job.row_bytes(), chunks = (count + chunk - 1) / chunk;
    buffer_.resize(static_cast<size_t>(count * stride));
    std::vector<std::string> wrong(static_cast<size_t>(chunks));
    pool_.for_each(chunks, [&](int64_t i) {
      const int64_t from = i * chunk;
      wrong[static_cast<size_t>(i)] =
          encode_rows(job, first + from, std::min(chunk, count - from),
                      reinterpret_cast<uint8_t*>(buffer_.data()) + from * stride);
    });
    for (const std::string& text : wrong)
      if (!text.empty())
        return failed(fmt::format("tensor {}: {}", quote(job.tensor.weight.name), text));
    HADAL_TRY(file_.write(buffer_));
    done_ += buffer_.size();
    if (options_.progress) options_.progress(done_, total_);
    return {};
  }

  NewFile& file_;
  ThreadPool& pool_;
  const Options& options_;
  uint64_t total_, done_ = 0;
  std::vector<std::byte> buffer_;
};

/// The one layer of multi-token prediction that a family can run and a checkpoint has.
Result<bool> has_mtp(const Checkpoint& source) {
  HADAL_TRY(const int64_t layers, source.config().integer("num_hidden_layers", 1, 65536));
  if (!source.find(layer_prefix(layers) + "eh_proj.weight")) return false;
  return make_model(source.config(), {.draft = true}).has_value();
}

Status plan_folder(const Checkpoint& source, Plan& plan) {
  HADAL_TRY(const bool mtp, has_mtp(source));
  HADAL_TRY(plan.model, make_model(source.config(), {.draft = mtp}));
  // A GGUF says what a config.json may leave to the family.
  const Config& config = plan.model->spec().config;
  HADAL_TRY(plan.model->bind(source));
  const std::string& type = plan.model->spec().family;
  const Architecture* architecture = gguf_architecture(type);
  if (!architecture || plan.model->file_tables().bytes > 0)
    return failed(fmt::format("{}: a model of type {} cannot be written as a GGUF",
                              source.path().string(), quote(type, 40)));
  GgufWriter& out = plan.header;
  out.add_text("general.architecture", architecture->gguf);
  out.add_text("general.type", "model");
  const std::filesystem::path folder = source.path().lexically_normal();
  out.add_text(
      "general.name",
      printable((folder.has_filename() ? folder : folder.parent_path()).filename().string()));
  HADAL_TRY(add_configuration(config, *architecture, mtp ? 1 : 0, out));
  HADAL_TRY(add_vocabulary(source, plan.model->spec().vocab_size, out));
  HADAL_TRY(std::vector<SourceTensor> tensors, folder_tensors(source, *plan.model, *architecture));
  for (SourceTensor& t : tensors) plan.jobs.push_back({.tensor = std::move(t)});
  return {};
}

/// Gives every tensor its type.
Status choose_types(const Checkpoint& source, const Options& options, Plan& plan) {
  ModelShape shape;
  HADAL_TRY(shape.tied, source.config().boolean("tie_word_embeddings", false));
  for (const Job& job : plan.jobs)
    shape.layers = std::max(shape.layers, layer_of(job.tensor.name) + 1);
  for (Job& job : plan.jobs) {
    const SourceTensor& t = job.tensor;
    const WeightSource& w = t.weight;
    job.dtype = written_type(*options.mix, shape, t.name, t.shape, w.dtype);
    const bool same = job.dtype == w.dtype;
    if (job.dtype == HADAL_MXFP4 && !same && w.scale_dtype != HADAL_F8_E8M0)
      return failed(fmt::format("tensor {}: FP4 with scales of type {} has no type in a GGUF",
                                quote(w.name), dtype_name(w.scale_dtype)));
    if (!same && is_requantised(w.dtype, job.dtype) && !options.allow_requantize)
      return failed(fmt::format(
          "tensor {} is {} already, as {} it would lose quality once more: take the model as it "
          "was published, or say --allow-requantize",
          quote(w.name), dtype_name(w.dtype), dtype_name(job.dtype)));
    if (!is_plain(options.mix->base) && t.shape.size() > 1 &&
        !row_bytes(options.mix->base, t.columns()) && !same)
      ++plan.fallbacks;
    plan.header.add_tensor(t.name, job.dtype, t.shape);
  }
  return {};
}

Result<Plan> make_plan(const Checkpoint& source, const Options& options) {
  Plan plan;
  if (source.format() == CheckpointFormat::kSafetensors) {
    HADAL_TRY(plan_folder(source, plan));
  } else {
    HADAL_TRY(copy_metadata(source, plan.header));
    for (SourceTensor& t : gguf_tensors(source)) plan.jobs.push_back({.tensor = std::move(t)});
  }
  plan.header.add_u32("general.file_type", options.mix->file_type);
  plan.header.add_u32("general.quantization_version", 2);
  HADAL_TRY(choose_types(source, options, plan));
  return plan;
}

/// Reads the begun file as a model and compares what it says of itself with the source.
Status verify(const std::filesystem::path& path, Model& model) {
  HADAL_TRY(const std::unique_ptr<Checkpoint> written, Checkpoint::open(path));
  HADAL_TRY(const std::unique_ptr<Model> again, make_model(written->config()));
  const auto wrong = [](std::string_view name, std::string_view is, std::string_view becomes) {
    return failed(
        fmt::format("a GGUF of this architecture cannot say it: {} is {}, and would be read as {}",
                    name, is, becomes));
  };
  std::map<std::string, std::string> fields(again->spec().fields.begin(),
                                            again->spec().fields.end());
  for (const auto& [name, value] : model.spec().fields)
    if (name != "rope" && fields[name] != value) return wrong(name, value, fields[name]);
  if (static_cast<float>(model.spec().rms_norm_eps) !=
      static_cast<float>(again->spec().rms_norm_eps))
    return wrong("rms_norm_eps", fmt::format("{}", model.spec().rms_norm_eps),
                 fmt::format("{}", again->spec().rms_norm_eps));
  HADAL_TRY(again->bind(*written));
  std::map<std::string, const std::vector<float>*> tables;
  for (const Weight& w : again->weights())
    if (!w.table.empty()) tables[w.source.name] = &w.table;
  for (const Weight& w : model.weights()) {
    if (w.table.empty()) continue;
    const std::vector<float>* other = tables[w.source.name];
    for (size_t i = 0; i < w.table.size(); ++i)
      if (!other || other->size() != w.table.size() ||
          std::abs((*other)[i] - w.table[i]) > 1e-6f * std::abs(w.table[i]))
        return wrong(w.source.name, "of the configuration", "another");
  }
  return {};
}

}  // namespace

Result<uint64_t> written_bytes(const Checkpoint& source, const Options& options) {
  HADAL_TRY(const Plan plan, make_plan(source, options));
  return plan.header.header().size() + static_cast<uint64_t>(plan.header.data_bytes());
}

Result<Report> quantize(const Checkpoint& source, const std::filesystem::path& out,
                        const Options& options) {
  for (const MappedFile& file : source.files()) {
    std::error_code unused;
    if (std::filesystem::equivalent(file.path(), out, unused))
      return usage_error(fmt::format("{}: is the model itself", out.string()));
  }
  HADAL_TRY(Plan plan, make_plan(source, options));

  HADAL_TRY(NewFile file, NewFile::create(out, options.replace));
  const std::string header = plan.header.header();
  HADAL_TRY(file.write(std::as_bytes(std::span(header))));
  HADAL_TRY(file.reserve(static_cast<int64_t>(header.size()) + plan.header.data_bytes()));

  HADAL_TRY(const std::unique_ptr<ThreadPool> pool, ThreadPool::create(options.threads));
  Report report;
  if (plan.model) report.left_out = plan.model->unused();
  report.fallbacks = plan.fallbacks;
  uint64_t total = 0;
  for (const Job& job : plan.jobs) total += static_cast<uint64_t>(job.bytes());
  DataWriter writer(file, *pool, options, total);
  bool verified = !plan.model;
  for (const Job& job : plan.jobs) {
    if (!verified &&
        job.tensor.values.empty()) {  // what is computed comes first and is checked too
      HADAL_TRY(verify(file.temporary(), *plan.model));
      verified = true;
    }
    HADAL_TRY(writer.write(job));
    auto& [tensors, bytes] = report.types[job.dtype];
    ++tensors;
    bytes += static_cast<uint64_t>(job.bytes());
  }
  HADAL_TRY(file.commit());
  for (const MappedFile& from : source.files()) report.source_bytes += from.bytes().size();
  report.bytes = header.size() + static_cast<uint64_t>(plan.header.data_bytes());
  return report;
}

}  // namespace hadal::quantize
