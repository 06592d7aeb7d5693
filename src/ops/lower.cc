// The fused operators that a chip may decline, spelt in smaller ones. A chip that takes the fused
// form must give the same result within the bounds of the parts.
#include "ops/ops.h"

namespace hadal {

void Ops::lower_gated_matmul(Tensor x, Tensor gate, Tensor up, Tensor out, double clamp) {
  Scratch scratch(*this);
  Tensor u = scratch.like(out);
  matmul(x, gate, out);
  matmul(x, up, u);
  swiglu(out, u, out, clamp);
}

}  // namespace hadal
