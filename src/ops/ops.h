// Ops: the operator vocabulary in which model families are written. One class, one method per
// operator of operators.inc.
//
// A method fills a plain descriptor, lowers it (ops/lower.cc) if the chip declined the fused form,
// and hands it to a sink. Rules: a forward function branches on its specification alone, never on
// device data or this step's row counts; program order is execution order; scratch is a stack.
// Formulas, rounding and bounds: include/hadal/operators.inc.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "ops/sink.h"
#include "ops/step_layout.h"
#include "ops/tensor.h"

namespace hadal {

/// Whether the chip takes an operator that it need not take, with these operands: a fused one,
/// which is lowered else, or `sample`, which is left to the host. Asked for every call, and always
/// answered alike for a call.
using TakesOptional = std::function<bool(const hadal_op& op, std::span<const Tensor> tensors)>;

/// The rotary embedding of one kind of layer.
struct Rope {
  Tensor inv_freq{};  ///< [dims / 2] F32 weight
  int64_t first = 0, dims = 0;
  bool interleaved = false;
  bool inverse = false;  ///< by the negative angle
  int64_t ratio = 1;     ///< above 1: only rows that end an entry turn, by its first position
  float amplitude = 1;
};

/// How a row's experts are chosen.
struct Router {
  hadal_router_score score = HADAL_ROUTER_SOFTMAX;
  int64_t groups = 1, groups_kept = 1;
  int64_t group_best = 1;  ///< a group's score is the sum of this many largest ones
  bool normalise = false;
  double scale = 1;
};

/// Constants of the hyper-connections.
struct HyperConnection {
  double norm_eps = 0, eps = 0;
  int64_t iterations = 1;
};

/// One layer of a cache plane and how it is paged; StepPlanes (models/planes.h) gives them out.
struct PlaneLayer {
  Tensor tensor{};    ///< [blocks, slots, width]
  size_t group = 0;   ///< the plane group whose block tables page it
  int64_t ratio = 1;  ///< positions a slot
};

/// One cache that latent attention looks at.
struct LatentSegment {
  PlaneLayer plane;
  int64_t window = 0;               ///< positions that are seen, the query's own included; 0: all
  std::optional<Tensor> list = {};  ///< [T, listed] I32: these slots alone
  bool to_horizon =
      false;  ///< a row sees up to its `horizon`, not to its own position; all segments
};

/// Runs of entries among which index_topk searches.
struct CandidateBlocks {
  Tensor list{};           ///< [T, blocks] I32
  int64_t block_size = 0;  ///< entries a block
};

/// The adapters that a step's sequences may use beside one matrix: out += B (A x), for each row
/// with those of its sequence.
struct AdapterBank {
  Tensor a{}, b{};  ///< [E, R, K] and [E, N, R]
};

/// A matrix that rows are multiplied by, and the adapters beside it. Whatever takes one adds them.
struct Matrix {
  Matrix(Tensor t, const AdapterBank* bank = nullptr) : tensor(t), adapters(bank) {}  // NOLINT
  Tensor tensor;
  const AdapterBank* adapters;  ///< null: none
};

/// Of a model whose experts lie on several devices, those of this one: from `first` on, of `of`.
struct ExpertRange {
  int64_t first = 0;
  int64_t of = 0;  ///< 0: all are here
};

/// What `sample` reads and reports beside the logits and the token.
struct SampleForm {
  bool mask = false;  ///< only tokens whose bits of the step's mask are set
  bool top = false;   ///< the most likely tokens are reported
};

class Ops {
 public:
  /// ranks: how many devices run the model, each its part.
  Ops(Sink& sink, const StepLayout& inputs, TakesOptional takes, SampleForm sample = {},
      int64_t ranks = 1)
      : sink_(sink), inputs_(inputs), takes_(std::move(takes)), sample_(sample), ranks_(ranks) {}
  Ops(const Ops&) = delete;
  Ops& operator=(const Ops&) = delete;

  /// The named step inputs and outputs.
  [[nodiscard]] const StepLayout& inputs() const { return inputs_; }

  [[nodiscard]] int64_t ranks() const { return ranks_; }

  /// The most scratch that was in use at once: exact, since scratch is a stack.
  [[nodiscard]] uint64_t scratch_bytes() const { return scratch_high_; }

  /// Where a pass begins.
  void begin(Region::Part part) { enter({.part = part, .layer = -1}); }
  /// What follows belongs to layer `i`, or to what comes behind the layers.
  void begin_layer(int64_t i) { enter({.part = Region::Part::kLayer, .layer = i}); }
  void begin_head() { enter({.part = Region::Part::kHead, .layer = -1}); }

  /// The banks of adapters that were added to something.
  [[nodiscard]] const std::set<const AdapterBank*>& adapters_used() const { return adapters_; }

  /// out[t] = table[token[t]].   table [V, d], out [T, d]
  void embed(Tensor table, Tensor out);
  /// out = x wᵀ (+ bias) (+ add).   x [M, K], w [N, K], bias [N], out [M, N]; batched: x [M, B, K],
  /// w [B, N, K], out [M, B, N]. Adapters of w are added behind it.
  void matmul(Tensor x, const Matrix& w, Tensor out, std::optional<Tensor> bias = {},
              std::optional<Tensor> add = {});
  /// out = rms_norm(x) ⊙ w over the last extent; w may be absent. x may be out.
  void rms_norm(Tensor x, std::optional<Tensor> w, double eps, Tensor out);
  /// out = (x - mean) / sqrt(var + eps) ⊙ w + b over the last extent. x may be out.
  void layer_norm(Tensor x, Tensor w, Tensor b, double eps, Tensor out);
  /// Turns x [T, H, D] in place by the rows' positions.
  void rope(Tensor x, const Rope& rope);
  /// out = silu(gate) ⊙ up.   all [M, n]; clamp 0: none
  void swiglu(Tensor gate, Tensor up, Tensor out, double clamp = 0,
              std::optional<Tensor> row_weight = {});
  /// out = silu(x gateᵀ) ⊙ (x upᵀ).   x [M, K], gate and up [N, K], out [M, N]
  void gated_matmul(Tensor x, const Matrix& gate, const Matrix& up, Tensor out, double clamp = 0);
  /// x += y
  void add(Tensor x, Tensor y);
  /// out = x.   [M, n]
  void copy(Tensor x, Tensor out);
  /// Writes the rows x [T, width] to the plane; of a plane with a ratio, only those that end a
  /// slot.
  void kv_write(Tensor x, const PlaneLayer& plane);
  /// out = softmax(scale q kᵀ) v over the row's own sequence; window 0: all of it.   q [T, H, D],
  /// out [T, H, Dv]
  void gqa_attention(Tensor q, const PlaneLayer& keys, const PlaneLayer& values, int64_t kv_heads,
                     double scale, Tensor out, int64_t window = 0);
  /// The experts of each row and their weights.   logits [T, E], bias [E], expert and weight [T,
  /// k]; hash [V, k]: the experts of each token, instead of a choice
  void router(Tensor logits, std::optional<Tensor> bias, const Router& how, Tensor expert,
              Tensor weight, std::optional<Tensor> hash = {});
  /// out = sum of the experts' gated feed-forward, weighted (+ shared) (+ add).   x and out [T, d],
  /// gate and up [E, n, d], down [E, d, n]
  void moe_experts(Tensor x, Tensor expert, Tensor weight, Tensor gate, Tensor up, Tensor down,
                   Tensor out, double clamp = 0, std::optional<Tensor> shared = {},
                   std::optional<Tensor> add = {}, const ExpertRange& range = {});
  /// out = softmax(scale [q; tail] entriesᵀ) entries[…, : Dv].   q [T, H, D], tail [T, H, Dr], out
  /// [T, H, Dv]
  void latent_attention(Tensor q, std::optional<Tensor> tail, const LatentSegment& segment,
                        double scale, Tensor out, std::optional<Tensor> sink = {},
                        const LatentSegment* second = nullptr);
  /// list = the slots whose keys score highest, of all or of those in candidate blocks.   q [T, H,
  /// D], weight [T, H], list [T, k] I32; keys of width D
  void index_topk(Tensor q, Tensor weight, const PlaneLayer& keys, Tensor list,
                  const CandidateBlocks* candidates = nullptr);
  /// candidates = the blocks of entries that hold the largest scores, the last visible one always.
  void index_blocks(Tensor q, Tensor weight, const PlaneLayer& keys,
                    const CandidateBlocks& candidates);
  /// out[t] = the entry of `ratio` positions that ends with row t, made of the rows [kv; z].   ape
  /// [ratio D] or [2 ratio D], out [T, D]
  void compress(const PlaneLayer& rows, std::optional<Tensor> ape, int64_t ratio, bool overlap,
                Tensor out);
  /// out = Σ pre_i x_i, and with `post` and `comb` what hc_post needs.   x [T, n, d], mix [T, n (n
  /// + 2)] or [T, n], out [T, d], post [T, n], comb [T, n, n]
  void hc_pre(Tensor x, Tensor mix, Tensor base, Tensor scale, const HyperConnection& how,
              Tensor out, std::optional<Tensor> post = {}, std::optional<Tensor> comb = {});
  /// The single-pass form: out = Σ pre_i x_i with the `pre` [T, n] of the site before, or no out at
  /// the first; then `pre` is this site's, with what hc_post needs.
  void hc_pre_delayed(Tensor x, Tensor mix, Tensor base, Tensor scale, const HyperConnection& how,
                      Tensor pre, std::optional<Tensor> out, Tensor post, Tensor comb);
  /// out = Σ pre_i x_i.   x [T, n, d], pre [T, n], out [T, d]
  void hc_collapse(Tensor x, Tensor pre, Tensor out);
  /// x_k <- post_k f + Σ_j comb[j, k] x_j.   x [T, n, d], f [T, d]
  void hc_post(Tensor x, Tensor f, Tensor post, Tensor comb);
  /// x_i += gate_i value, gate_i by how well stream i matches key i.   x and key [T, n, d], value
  /// [T, d], q_weight and k_weight [n d]
  void engram_gate(Tensor x, Tensor key, Tensor value, Tensor q_weight, Tensor k_weight,
                   double eps);
  /// MLA, absorbed: K is w_uk's latent, V its w_uv.   q_nope [T, H, dn], q_rope [T, H, dr], w_uk
  /// [H, r, dn], w_uv [H, dv, r], out [T, H, dv]
  void mla_attention(Tensor q_nope, Tensor q_rope, Tensor w_uk, Tensor w_uv,
                     const LatentSegment& segment, double scale, Tensor out);
  /// out[t] = hidden[draft_row[t]], the main pass's rows.   out [T, hidden]
  void gather_hidden(Tensor out);
  /// The front of `hidden` as a place for the rows of a draft whose logits are wanted.   [R,
  /// hidden]
  [[nodiscard]] Tensor hidden_front() const;
  /// out[r] = rows[logit_row[r]], a step output as an earlier pass of the draft left it.   rows
  /// [R, n], out [R, n]
  void gather_earlier_rows(Tensor rows, Tensor out);
  /// out[u] = x[tail_row[u]], the rows that go on into the model's tail.   x [T, n], out [U, n]
  void gather_tail_rows(Tensor x, Tensor out);
  /// out[r] = x[logit_row[r]].   x [U, n], out [R, n]
  void gather_logit_rows(Tensor x, Tensor out);
  /// x <- the sum of the x of all ranks; nothing with one rank.   x [M, n]
  void all_reduce(Tensor x);
  /// out = the sum of what make(to, add) writes on every rank (+ add). With one rank make adds
  /// `add` itself; else it is asked for its part alone, and `add` must be the memory of `out`.
  using MakePart = std::function<void(Tensor to, std::optional<Tensor> add)>;
  void sum_of_ranks(Tensor out, std::optional<Tensor> add, const MakePart& make);
  /// Samples from the step output `logits` into the step outputs sampled, logprob, top_token,
  /// top_logprob; nothing where the chip declines that.
  void sample();

 private:
  friend class Scratch;
  void enter(const Region& region) {
    region_ = region;
    sink_.enter(region);
  }
  void emit(uint32_t id, std::initializer_list<std::optional<Tensor>> operands,
            const hadal_attributes& attr = {});
  /// The same for one that a chip need not take: false, and nothing done, if it does not.
  bool emit_if_taken(uint32_t id, std::initializer_list<std::optional<Tensor>> operands,
                     const hadal_attributes& attr);
  /// Positions and sequences of the rows of x: those of the tail, where x has its rows.
  [[nodiscard]] const Tensor& position_of(const Tensor& x) const {
    return of_tail(x) ? inputs_.tail_position : inputs_.position;
  }
  [[nodiscard]] const Tensor& row_seq_of(const Tensor& x) const {
    return of_tail(x) ? inputs_.tail_row_seq : inputs_.row_seq;
  }
  [[nodiscard]] Tensor every_row(Tensor rows) const;
  [[nodiscard]] bool of_tail(const Tensor& x) const {
    return inputs_.limits.tail && x.row_dim == HADAL_DIM_U;
  }
  void emit_hc_pre(Tensor x, std::optional<Tensor> mix, std::optional<Tensor> base,
                   std::optional<Tensor> scale, const HyperConnection& how,
                   std::optional<Tensor> out, std::optional<Tensor> post,
                   std::optional<Tensor> comb, std::optional<Tensor> pre);
  void lora_add(Tensor x, const AdapterBank* adapters, Tensor out);
  void lower_gated_matmul(Tensor x, const Matrix& gate, const Matrix& up, Tensor out, double clamp);
  void lower_moe_experts(Tensor x, Tensor expert, Tensor weight, Tensor gate, Tensor up,
                         Tensor down, Tensor out, const hadal_experts_attr& experts,
                         std::optional<Tensor> shared, std::optional<Tensor> add);
  void lower_mla_attention(Tensor q_nope, Tensor q_rope, Tensor w_uk, Tensor w_uv,
                           const LatentSegment& segment, double scale, Tensor out);

  Sink& sink_;
  const StepLayout& inputs_;
  TakesOptional takes_;
  SampleForm sample_;
  int64_t ranks_;
  Region region_;
  uint64_t scratch_top_ = 0;
  uint64_t scratch_high_ = 0;
  uint64_t emitted_ = 0;
  std::set<const AdapterBank*> adapters_;
};

/// A scope of temporaries: hands them out, and returns them and marks their last use when it
/// closes.
class Scratch {
 public:
  explicit Scratch(Ops& ops) : ops_(ops), bottom_(ops.scratch_top_), opened_(ops.emitted_) {}
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  /// [rows of dim, width] fp32.
  Tensor rows(hadal_dim dim, int64_t width) { return make(HADAL_F32, dim, {1, width}); }
  /// Any type and shape; the first extent is multiplied by the step's count of `dim`.
  Tensor make(DType dtype, hadal_dim dim, std::initializer_list<int64_t> extents);
  /// A tensor of the shape of `t`, contiguous.
  Tensor like(const Tensor& t);

 private:
  Ops& ops_;
  uint64_t bottom_, opened_;
};

}  // namespace hadal
