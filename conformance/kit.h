// The conformance kit: what its parts share. See docs/numerics.md for the bounds, docs/operators.md
// for the operators.
//
// A *case* is one operator with its operands, made from a seed. It is laid out in poisoned memory
// between guard bands, run on the chip under test and on `ref`, and compared element by element
// with a bound that is computed from the inputs. The kit speaks the C contract alone: it links
// `ref` as its oracle, and knows nothing of the chip but its table.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/weight_form.h"
#include "hadal/chip.h"

namespace hadal::conformance {

using Bytes = std::vector<std::byte>;

/// SplitMix64: small, and the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits();
  /// A whole number of [low, high].
  int64_t range(int64_t low, int64_t high);
  bool coin() { return (bits() & 1) != 0; }
  /// About normal, mean 0, variance 1; never beyond 3.5.
  float normal();
  template <typename T>
  const T& pick(const std::vector<T>& from) {
    return from[static_cast<size_t>(range(0, static_cast<int64_t>(from.size()) - 1))];
  }
  std::vector<float> normals(int64_t count, float scale = 1.0f);
  /// 0 … count - 1 in some order.
  std::vector<int32_t> shuffled(int64_t count);

 private:
  uint64_t state_;
};

// ---- the chip under test

/// What operands must obey that lie in a device's memories.
struct Placement {
  uint32_t alignment = 64;  ///< the larger of 64 and the device's
  bool columns = false;     ///< views of columns need no alignment, and say that they are such
};

/// One open device with its queue. `threads`: what was asked for.
struct Device {
  hadal_chip* chip = nullptr;
  hadal_device* device = nullptr;
  hadal_queue* queue = nullptr;
  int32_t threads = 0;
  Placement placement;
  /// The layout within a block of a plane is the chip's: planes are written by kv_write and read by
  /// operators, never looked into.
  [[nodiscard]] bool opaque_planes() const { return chip->plane_bytes != nullptr; }
};
hadal_error fresh_error();

/// What the user says of devices.
struct DeviceWishes {
  std::string kernels;                        ///< the table to force, "" for the best
  uint32_t numerics = HADAL_NUMERICS_UNSAID;  ///< HADAL_NUMERICS_EXACT asks for the exact forms
  std::vector<std::string> chip_options;      ///< NAME=VALUE
  int32_t device = 0;                         ///< its number

  /// Opens that device of a chip.
  hadal_status open(hadal_chip& chip, int32_t threads, hadal_device** out,
                    hadal_error* error) const;
};

/// A chip: its table, and devices opened with 1, 2 and 3 threads.
class Chip {
 public:
  Chip() = default;
  Chip(const Chip&) = delete;
  Chip& operator=(const Chip&) = delete;
  ~Chip();
  /// "ref", "cpu" or the path of a plug-in. Returns why it failed, or nothing.
  std::string open(const std::string& name, const DeviceWishes& wishes);
  [[nodiscard]] bool is_1_1() const { return (table.abi & 0xffffu) >= 1; }

  int32_t index = 0;  ///< the number of the device
  hadal_chip_query_fn query = nullptr;
  hadal_chip table{};
  hadal_device_info info{};
  std::array<Device, 3> devices;  ///< with 1, 2 and 3 threads
  Device& device(int32_t threads) { return devices[static_cast<size_t>(threads - 1)]; }

 private:
  // Both live until the chip is closed.
  hadal_host host_{};
  hadal_error query_error_{};
  void* library_ = nullptr;
};

// ---- cases

/// A weight with its sources: where pieces lie (on purpose at odd addresses), and its values.
struct WeightData {
  hadal_weight_desc desc{};
  struct Source {
    Bytes bytes;  ///< `skew` bytes, then the rows
    int64_t rows = 0;
    int64_t row_stride = 0;
    Bytes scale_bytes;  ///< empty: no scales
    int64_t scale_row_stride = 0;
  };
  size_t skew = 0;
  std::vector<Source> sources;
  std::vector<float> values;  ///< [batch * rows, cols], decoded and scaled
};

/// An operand of a case: its shape and dense values. The layout decides where it lies.
struct Operand {
  uint32_t dtype = HADAL_DTYPE_NONE;  ///< NONE: absent
  std::vector<int64_t> shape;  ///< shape[0]: rows of this case, per_row x its count of row_dim
  uint32_t row_dim = HADAL_DIM_CONST;
  int64_t per_row = 1;
  int64_t row_pad = 0;   ///< elements between rows
  int64_t head_pad = 0;  ///< elements between the second extent's rows (rank 3)
  bool plane = false;
  uint32_t plane_role = HADAL_PLANE_UNSAID;  ///< UNSAID: as the operator reads it
  uint32_t plane_heads = 1;
  int32_t alias = -1;  ///< the operand whose very memory this one is
  Bytes data;          ///< dense values; for outputs empty
  std::shared_ptr<const WeightData> weight;

  [[nodiscard]] bool present() const { return dtype != HADAL_DTYPE_NONE; }
  [[nodiscard]] int64_t count() const;
  template <typename T>
  [[nodiscard]] const T* values() const {
    return reinterpret_cast<const T*>(data.data());
  }
};

struct Case {
  uint32_t id = HADAL_OP_NONE;
  std::string name;  ///< what is special about it
  hadal_attributes attr{};
  std::array<Operand, HADAL_MAX_OPERANDS> operands;
  std::array<int64_t, HADAL_DIM_COUNT> rows{1, 0, 0, 0, 0};
  std::array<int64_t, HADAL_DIM_COUNT> spare{};  ///< how much higher the tape's limits are
  uint32_t sliced = HADAL_DIM_CONST;  ///< rows of this dim are independent: compared one by one
  bool every_row = false;             ///< and this case is there to compare them
  bool must_fail = false;             ///< the contract says HADAL_INVALID, of the form itself
  bool wrong_data = false;  ///< an index that does not exist: of chips that check them, the same
};

Operand floats(std::vector<int64_t> shape, uint32_t row_dim, const std::vector<float>& values);
Operand ints(std::vector<int64_t> shape, uint32_t row_dim, const std::vector<int32_t>& values);
Operand output(uint32_t dtype, std::vector<int64_t> shape, uint32_t row_dim);
/// The same, with so many rows for each of the step's.
Operand per_row(Operand o, int64_t rows);
Operand weight_operand(std::shared_ptr<const WeightData> weight, std::vector<int64_t> shape);
/// Values in F32, F16 or BF16, rounded.
Bytes encode(const std::vector<float>& values, uint32_t dtype);
float decode(const Operand& o, int64_t index);

/// How the sources of a weight look.
struct WeightShape {
  int64_t batch = 1;
  int64_t rows = 1;
  int64_t cols = 1;
  uint32_t uses = HADAL_USE_MATMUL;
  uint32_t pieces = 1;
  int64_t block_rows = 0;  ///< 0: no block scales
  int64_t block_cols = 0;
  uint32_t scale_dtype = HADAL_DTYPE_NONE;
};
std::shared_ptr<const WeightData> make_weight(Random& random, uint32_t dtype,
                                              const WeightShape& shape);
std::shared_ptr<const WeightData> make_vector(const std::vector<float>& values);
/// Whole numbers to gather, as I32 or I64.
std::shared_ptr<const WeightData> make_table(const std::vector<int32_t>& values, int64_t cols,
                                             uint32_t dtype);
/// Decodes the sources into w.values.
void decode_values(WeightData& w);
/// The same weight in a form that a chip takes; null for a form that the kit does not make, or that
/// does not fit its columns.
std::shared_ptr<const WeightData> in_form(const WeightData& from, const hadal_weight_form& form);
/// The forms that a chip lists for a use, and what is wrong with the list.
struct Forms {
  std::vector<hadal_weight_form> list;
  std::string violation;
};
Forms weight_forms(const Device& device, uint32_t use);
/// A weight whose type the device declines, in the first form that it lists and takes; else itself.
std::shared_ptr<const WeightData> adapt_weight(std::shared_ptr<const WeightData> weight,
                                               const Device& device, std::string& violation);
/// The case as this device can run it: weights in forms that it takes, and numbers that survive the
/// rounding of the operator that reads opaque planes back. Returns how the chip broke the contract,
/// or nothing.
std::string adapt(Case& c, const Device& device);

/// Types that hold numbers; and whether a chip may round the activations that meet it.
std::vector<uint32_t> weight_dtypes();
bool is_quantised(uint32_t dtype);
int64_t block_of(uint32_t dtype);

/// Row counts and widths that cases are made with.
inline const std::vector<int64_t> kRows = {0, 1, 2, 3, 7, 8, 16, 17, 63, 64, 65, 130};
inline const std::vector<int64_t> kWidths = {1, 2, 7, 31, 32, 33, 64, 100, 256, 576, 1000};

/// Entries of a cache that a row sees: [begin, end). `ratio`: positions an entry.
struct EntryRange {
  int64_t begin = 0;
  int64_t end = 0;
  [[nodiscard]] bool holds(int64_t entry) const { return entry >= begin && entry < end; }
};
inline EntryRange entry_range(int64_t position, int64_t first, int64_t ratio, int64_t window) {
  const int64_t end = (position + 1) / ratio;
  const int64_t begin = (first + ratio - 1) / ratio;
  return {window != 0 ? std::max(begin, end - window) : begin, end};
}

/// All cases of one operator. `quick`: fewer of them; `light`: those of little work alone.
std::vector<Case> make_cases(uint32_t id, uint64_t seed, bool quick, bool light = false);
void matmul_cases(Random& random, bool quick, std::vector<Case>& cases);
void gated_matmul_cases(Random& random, bool quick, std::vector<Case>& cases);
void embed_cases(Random& random, bool quick, std::vector<Case>& cases);
void gather_cases(Random& random, bool quick, std::vector<Case>& cases);
void kv_write_cases(Random& random, bool quick, std::vector<Case>& cases);
void copy_blocks_cases(Random& random, bool quick, std::vector<Case>& cases);
void convert_cases(Random& random, bool quick, std::vector<Case>& cases);
void norm_cases(Random& random, bool quick, std::vector<Case>& cases);
void rope_cases(Random& random, bool quick, std::vector<Case>& cases);
void swiglu_cases(Random& random, bool quick, std::vector<Case>& cases);
void add_cases(Random& random, bool quick, std::vector<Case>& cases);
void attention_cases(Random& random, bool quick, std::vector<Case>& cases);
void latent_cases(Random& random, bool quick, std::vector<Case>& cases);
void mla_attention_cases(Random& random, bool quick, std::vector<Case>& cases);
void sample_cases(Random& random, bool quick, std::vector<Case>& cases);
void router_cases(Random& random, bool quick, std::vector<Case>& cases);
void moe_sort_cases(Random& random, bool quick, std::vector<Case>& cases);
void grouped_matmul_cases(Random& random, bool quick, std::vector<Case>& cases);
void moe_combine_cases(Random& random, bool quick, std::vector<Case>& cases);
void moe_experts_cases(Random& random, bool quick, std::vector<Case>& cases);
void index_topk_cases(Random& random, bool quick, std::vector<Case>& cases);
void index_blocks_cases(Random& random, bool quick, std::vector<Case>& cases);
void compress_cases(Random& random, bool quick, std::vector<Case>& cases);
void hc_pre_cases(Random& random, bool quick, std::vector<Case>& cases);
void hc_post_cases(Random& random, bool quick, std::vector<Case>& cases);
void engram_gate_cases(Random& random, bool quick, std::vector<Case>& cases);
void lora_add_cases(Random& random, bool quick, std::vector<Case>& cases);

// ---- running a case

/// The memories of one step, as bytes on the host.
struct Images {
  Bytes scratch, inputs, outputs;
  std::vector<Bytes> planes;
  bool operator==(const Images&) const = default;
};

/// A case laid out: the tape, what the memories hold before, and which bytes the operator may
/// write.
struct Layout {
  hadal_op op{};
  std::vector<hadal_tensor> tensors;
  std::array<int64_t, HADAL_DIM_COUNT> limits{};
  std::array<int64_t, HADAL_DIM_COUNT> rows{};
  Images before;
  Images writable;  ///< 1: this byte belongs to an output
};
Layout lay_out(const Case& c, const Placement& placement);
/// A byte of a memory in words, by the operand that it is nearest to.
std::string nearest_operand(uint32_t id, const Layout& layout, hadal_space space, size_t plane,
                            uint64_t byte);
/// In Layout::writable.
constexpr std::byte kWritten{1};  // belongs to an output's row of this step
constexpr std::byte kAboveCount{
    2};  // to one above the count: free, unless the chip is row_invariant
/// By its role: whether the operator may write this operand.
bool is_written(uint32_t id, uint32_t operand);
/// Dense values of operand `i` in `images`.
Bytes extract(const Layout& layout, const Images& images, uint32_t operand);

/// What a chip is told of a plane operand.
hadal_plane_desc plane_desc(const Case& c, uint32_t operand);
/// kv_write of all slots of a plane, and gqa_attention that gives them back, a row a slot.
Case fill_case(const Operand& plane);
Case read_case(const Operand& plane);
/// All numbers of an operand.
std::vector<float> decode_all(const Operand& o);

/// How a chip computes an operator on these types.
struct Numerics {
  uint32_t kind = HADAL_NUMERICS_UNSAID;
  uint32_t block = 32;  ///< BLOCK8
  bool operator==(const Numerics&) const = default;
};
/// Whether the chip takes an operator, asked by op_query and, where the chip has it, op_support.
struct Support {
  hadal_status status = HADAL_OK;
  std::string text;       ///< why not
  std::string violation;  ///< an answer that the contract does not allow
  Numerics numerics;
  uint64_t workspace_bytes = 0;
};
Support ask_support(const Device& device, const hadal_op& op,
                    const std::vector<hadal_tensor>& tensors, const int64_t* limits);

struct Outcome {
  hadal_status status = HADAL_OK;
  bool declined = false;         ///< by weight_bytes or op_query
  bool declined_weight = false;  ///< no form of a weight is taken
  bool declined_plane = false;   ///< no such planes, or no operator that reads them back
  std::string text;
  std::string violation;  ///< how the chip broke the contract, whatever it computed
  Numerics numerics;
  Images images;  ///< opaque planes: as they were before
  /// Of opaque planes that were written: all slots as another operator reads them, in its class.
  std::array<Bytes, HADAL_MAX_OPERANDS> read_back;
  Numerics read_numerics;
  double seconds = 0;
};
/// Creates the weights, asks whether the operator is taken, poisons, runs, reads everything back.
/// `layout` must be of the device's placement. Odd poisons go with host_inputs, even ones without.
Outcome run_case(const Case& c, const Layout& layout, const Device& device,
                 uint8_t workspace_poison);
/// How operands lie so far from the beginning of their memories that 32 bits do not hold it.
enum class Far : uint8_t {
  kNo,
  kOffsets,    ///< every operand and plane begins behind 2 GiB
  kRowStrides  ///< a row is 1 GiB behind the one before it: for cases of fits_far_rows
};
/// Three rows, each of one row of the step.
bool fits_far_rows(const Case& c);
/// Bytes of the largest memory that a far run of the case allocates.
uint64_t far_bytes(const Layout& layout, Far far);
/// run_case with operands far away. Images are as if they were not. Only what is used of the
/// memories is touched.
Outcome run_far(const Case& c, const Layout& layout, const Device& device, Far far);
/// The rows [first, first + count) of `c` alone.
Case slice(const Case& c, int64_t first, int64_t count);
/// Which row of X row `i` of a grouped_matmul's output is made of.
int64_t source_row(const Case& c, int64_t i);
/// The rows of one expert of a grouped_matmul, as the matmul with its matrix.
Case expert_alone(const Case& c, int64_t expert);

/// Fused operators that ref declines: OUT as ref computes it part by part, for a chip that takes
/// them. Throws if a part fails.
bool has_parts(uint32_t id);
Bytes run_parts(const Case& c, const Device& ref);

/// In bounds: the element may be anything.
constexpr double kNoValue = -1;
/// Per element of operand `i`: the largest allowed |found - expected| of a chip that computes in
/// `numerics`; empty: bits must be equal. `expected`: ref's answer.
std::vector<double> bounds(const Case& c, uint32_t operand, const Bytes& expected,
                           const Numerics& numerics);
/// Is `token` an answer that sample may give on row r? With the text of why not.
std::string wrong_token(const Case& c, int64_t r, int32_t token);

/// The level `real`: files of models, which `hadal` reads and the kit does not.
struct RealModels {
  std::string hadal;               ///< the program
  std::vector<std::string> files;  ///< none: the level is not run
  std::vector<std::string> words;  ///< options of `hadal chip distance`, as they were given
};

struct Options {
  std::string chip = "cpu";
  int32_t device = 0;               ///< its number
  std::vector<std::string> levels;  ///< by name; none: all that are not to be asked for
  std::string kernels;
  std::string numerics;                   ///< "exact": the chip is asked for the exact forms
  std::vector<std::string> chip_options;  ///< NAME=VALUE
  std::string op;
  std::string family;  ///< only what this family needs, and it must pass; "all": every family
  uint64_t seed = 1;
  bool quick = false;
  RealModels real;
  bool light = false;  ///< only what a simulator of a chip runs in a moment

  [[nodiscard]] DeviceWishes wishes() const {
    return {kernels, numerics == "exact" ? HADAL_NUMERICS_EXACT : HADAL_NUMERICS_UNSAID,
            chip_options, device};
  }
};

class Report;  // report.h

// The levels. Each names a case to the report before it runs it, so that a crash or a hang has a
// name, and asks whether to run it: a level that broke off goes on behind the case that broke it.
void level_loads(Chip& chip, Report& report);
/// Completion and lifetime, as the contract numbers them.
void level_queues(Chip& chip, Report& report);
/// One operator against ref.
void level_operator(Chip& chip, Chip& ref, uint32_t id, const Options& options, Report& report);
/// One operator with indices that do not exist.
void level_errors(Chip& chip, uint32_t id, const Options& options, Report& report);
/// A tiny model of a family over several steps: op_run against program, cuts of the prompt,
/// neighbours, threads, the stop flag; in whole, how far a chip that rounds is from ref.
void level_models(Chip& chip, Chip& ref, const std::string& family, const Options& options,
                  Report& report);

}  // namespace hadal::conformance
