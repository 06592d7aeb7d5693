// Manifold-constrained hyper-connections (DeepSeek-V4, §2.2): n residual streams instead of one.
//
//   m = F (X / rms(X)),  pre = σ(α_0 m + β) + ε,  post = 2 σ(α_1 m + β),  C = Sinkhorn(α_2 m + β)
//   x = Σ_i pre_i X_i → sublayer → f,   X'_k = post_k f + Σ_j C[j, k] X_j
#pragma once

#include <string>

#include "models/spec.h"
#include "ops/ops.h"
#include "weights/binder.h"

namespace hadal {

struct HyperSpec {
  int64_t streams = 0;
  HyperConnection constants;

  /// hc_mult, hc_sinkhorn_iters, hc_eps.
  static Result<HyperSpec> from_config(const Config& config, ModelSpec& model);
};

struct HyperWeights {
  Weight* fn = nullptr;     // [n (n + 2), n hidden], of the last collapse [n, n hidden]
  Weight* base = nullptr;   // [n (n + 2)], [n]
  Weight* scale = nullptr;  // [3], [1]
};

/// Tensors prefix + "fn", "base" and "scale".
HyperWeights bind_hyper(WeightBinder& binder, const std::string& prefix, const HyperSpec& spec,
                        int64_t hidden, bool collapse_only = false);

/// The streams as [rows, n, hidden].
inline Tensor streams_view(Tensor x, const HyperSpec& spec) { return heads_view(x, spec.streams); }

/// out = Σ pre_i X_i; post and comb for hyper_merge.   x [T, n hidden], out [T, hidden], post [T,
/// n], comb [T, n n]
void hyper_collapse(Ops& ops, const HyperSpec& spec, const HyperWeights& w, Tensor x, Tensor out,
                    std::optional<Tensor> post = {}, std::optional<Tensor> comb = {});

/// The single-pass form (DeepSeek-V4.1): out = Σ pre_i X_i with the pre [T, n] of the site before
/// (the first site has none: no out), then pre, post and comb of this site.
void hyper_collapse_delayed(Ops& ops, const HyperSpec& spec, const HyperWeights& w, Tensor x,
                            Tensor pre, std::optional<Tensor> out, Tensor post, Tensor comb);

/// X_k <- post_k f + Σ_j comb[j, k] X_j
void hyper_merge(Ops& ops, const HyperSpec& spec, Tensor x, Tensor f, Tensor post, Tensor comb);

}  // namespace hadal
