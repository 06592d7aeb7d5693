// DeepSeek-V4.1-Flash, its language model: a causal encoder and a decoder in one stack. A few
// layers (sources) make the compressed entries that all layers up to the next source attend to,
// and a few choose among them; the layers behind the last source, the tail, cache a window alone,
// so that of a prompt they need only the last rows (docs/tail.md). Hyper-connections in their
// single-pass form; n-gram memory (Engram) on two layers. README.md maps its equations to these
// files.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "models/blocks/dspark.h"
#include "models/blocks/ends.h"
#include "models/blocks/engram.h"
#include "models/blocks/hyper_connection.h"
#include "models/blocks/moe.h"
#include "models/blocks/shared_kv.h"
#include "models/model.h"

namespace hadal::deepseek_v41 {

/// What a layer does beside its window.
struct LayerSpec {
  int64_t ratio = 0;       ///< positions an entry; 0: none, the window alone
  int64_t source = -1;     ///< number of the source whose entries it reads
  bool is_source = false;  ///< it makes entries and index keys
  bool chooses = false;    ///< it chooses entries; layers up to the next that does share the choice
  bool makes_blocks = false;     ///< it names the candidate blocks
  bool searches_blocks = false;  ///< it searches inside them alone
};

/// Where a source keeps what it makes: planes of one layer.
struct SourcePlanes {
  PlaneHandle rows;  ///< of its compressor; unset for ratio 1
  PlaneHandle entries, keys;
};

struct DeepSeekV41Spec : SharedKvSpec {
  ModelSpec model;
  HyperSpec hyper;
  MoeSpec moe;
  EngramSpec engram;
  DsparkSpec dspark;
  std::vector<LayerSpec> layers;
  std::vector<SourcePlanes> sources;  ///< in the order of their layers
  int64_t tail_from = 0;              ///< layers from here on are behind the last source
  PlaneHandle tail_window_plane;      ///< of those; window_plane is of the others
  int64_t blocks_from = 0;  ///< the layer that names candidate blocks; num_hidden_layers: none
  int64_t candidate_topk_blocks = 0, candidate_block_size = 0;

  static Result<DeepSeekV41Spec> from_config(const Config& config, const FamilyOptions& options);
  [[nodiscard]] bool has_tail() const { return tail_from < model.num_hidden_layers; }
};

struct AttentionWeights : SharedKvWeights {
  Weight *compressor_wkv = nullptr, *compressor_wgate = nullptr;  // [head_dim, hidden]
  Weight* compressor_norm = nullptr;                              // [head_dim]
  Weight* index_wk = nullptr;                                     // [index_head_dim, head_dim]
  Weight* index_k_norm = nullptr;                                 // [index_head_dim]
};

struct LayerWeights {
  HyperWeights hc_attn, hc_ffn;
  Weight* attn_norm = nullptr;  // [hidden]
  AttentionWeights attn;
  Weight* ffn_norm = nullptr;  // [hidden]
  MoeWeights ffn;
  std::optional<size_t> engram;  ///< number of its table
};

/// What each layer hands to the next.
struct Flow {
  Tensor x{};     // [T, n hidden], the streams
  Tensor pre{};   // [T, n], of the site before
  Tensor list{};  // [T, index_topk] I32, the entries chosen last
  CandidateBlocks blocks;
};

class DeepSeekV41Model final : public FamilyModel<DeepSeekV41Spec> {
 public:
  using FamilyModel::FamilyModel;
  Status bind(const Checkpoint& checkpoint) override;
  [[nodiscard]] FileTableTotals file_tables() const override;
  [[nodiscard]] bool needs_compressed_vocabulary() const override {
    return !spec_.engram.layers.empty();
  }
  Status take_vocabulary(const CompressedVocabulary& vocabulary) override;
  void fill_extra(std::span<const SequenceRows> step, float* extra) const override;
  void forward(Ops& ops, const StepPlanes& planes) const override;
  void draft(Ops& ops, const StepPlanes& planes) const override;
  void draft_block(Ops& ops, const StepPlanes& planes) const override;
  void draft_next(Ops& ops, const StepPlanes& planes) const override;

 private:
  LayerWeights bind_layer(WeightBinder& binder, const std::string& prefix, const LayerSpec& layer,
                          const MoeSpec& moe) const;
  void bind_drafts(WeightBinder& binder);
  void tap(Ops& ops, int64_t layer, Tensor x) const;
  [[nodiscard]] Flow flow_of(Scratch& scratch, hadal_dim rows) const;
  [[nodiscard]] const SourcePlanes& source_of(const LayerSpec& layer) const {
    return spec_.sources[static_cast<size_t>(layer.source)];
  }
  void make_entries(Ops& ops, const LayerSpec& layer, const AttentionWeights& w,
                    const StepPlanes& planes, Tensor h) const;
  void choose(Ops& ops, const LayerSpec& layer, const AttentionWeights& w, const StepPlanes& planes,
              Tensor h, Tensor c_q, const Flow& flow) const;
  void attention(Ops& ops, int64_t layer, const StepPlanes& planes, const Flow& flow, Tensor h,
                 Tensor f) const;
  void decoder_layer(Ops& ops, int64_t layer, const StepPlanes& planes, const Flow& flow) const;
  /// Both sites of a layer, whose attention is f = attend(h). first: no site came before.
  void sublayers(Ops& ops, const LayerWeights& w, const MoeSpec& moe, const Flow& flow, bool first,
                 const std::function<void(Tensor h, Tensor f)>& attend) const;

  InvFreqWeights inv_freq_;
  std::vector<LayerWeights> layers_;
  std::vector<EngramWeights> engrams_;
  std::optional<EngramHash> hash_;
  EndWeights ends_;
  std::vector<LayerWeights> stages_;  // of DSpark
  DsparkWeights dspark_;
};

}  // namespace hadal::deepseek_v41
