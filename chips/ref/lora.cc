// lora_add: each row with the two small matrices of its sequence's adapter.
#include <vector>

#include "ref.h"

namespace hadal::ref {

// out[t] += B_a (A_a x[t]), a = adapter[row_seq[t]]; never rounded by a class of numerics
hadal_status lora_add(const Call& call) {
  const auto& x = call[HADAL_LORA_ADD_X];
  const auto& adapter = call[HADAL_LORA_ADD_ADAPTER];
  const auto& row_seq = call[HADAL_LORA_ADD_ROW_SEQ];
  const auto& out = call[HADAL_LORA_ADD_OUT];
  const auto& a_bank = call[HADAL_LORA_ADD_A];
  const int64_t bank = a_bank.extents[0], rank = a_bank.extents[1], k = x.extents[1],
                n = out.extents[1];
  for (int64_t s = 0; s < adapter.extents[0]; ++s)
    if (const int32_t a = *adapter.row<int32_t>(s); a < -1 || a >= bank)
      return call.outside(HADAL_LORA_ADD_ADAPTER, s, a, bank);
  for (int64_t t = 0; t < x.extents[0]; ++t)
    if (const int32_t s = *row_seq.row<int32_t>(t); s < 0 || s >= adapter.extents[0])
      return call.outside(HADAL_LORA_ADD_ROW_SEQ, t, s, adapter.extents[0]);
  RowReader a_rows(weight(a_bank.weight), {}), b_rows(weight(call[HADAL_LORA_ADD_B].weight), {});
  std::vector<double> values(static_cast<size_t>(k)), y(static_cast<size_t>(rank));
  for (int64_t t = 0; t < x.extents[0]; ++t) {
    const int32_t a = *adapter.row<int32_t>(*row_seq.row<int32_t>(t));
    if (a < 0) continue;
    round_activations({x.row<float>(t), static_cast<size_t>(k)}, {}, values.data());
    for (int64_t r = 0; r < rank; ++r)
      y[static_cast<size_t>(r)] =
          static_cast<double>(static_cast<float>(dot(values.data(), a_rows.read(a * rank + r), k)));
    float* row = out.row<float>(t);
    for (int64_t i = 0; i < n; ++i)
      row[i] = static_cast<float>(static_cast<double>(row[i]) +
                                  dot(y.data(), b_rows.read(a * n + i), rank));
  }
  return HADAL_OK;
}

}  // namespace hadal::ref
