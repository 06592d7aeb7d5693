// What a tiny model chooses: read after each step; and on ref, the choices of another model taken
// instead of its own, with a note of what there was to choose from.
#include <algorithm>
#include <cstring>

#include "base/quant.h"
#include "levels/tiny_model.h"

namespace hadal::conformance {
namespace {

bool chooses(uint32_t id) {
  return id == HADAL_OP_ROUTER || id == HADAL_OP_INDEX_TOPK || id == HADAL_OP_INDEX_BLOCKS;
}

uint32_t chosen_operand(uint32_t id) {
  return id == HADAL_OP_ROUTER       ? uint32_t{HADAL_ROUTER_EXPERT}
         : id == HADAL_OP_INDEX_TOPK ? uint32_t{HADAL_INDEX_TOPK_LIST}
                                     : uint32_t{HADAL_INDEX_BLOCKS_LIST};
}

Choice row_of(const Bytes& bytes, size_t row, size_t count) {
  Choice choice(count);
  std::memcpy(choice.data(), bytes.data() + row * count * sizeof(int32_t), count * sizeof(int32_t));
  return choice;
}

/// Numbers that ref can go on with; others are judged, and not followed.
bool can_follow(const hadal_op& op, const Choice& choice, const Candidates& candidates) {
  const auto limit = static_cast<int32_t>(candidates.scores.size());
  const bool router = op.id == HADAL_OP_ROUTER;
  int32_t last = -1;
  bool ended = false;
  for (const int32_t number : choice) {
    if (number >= limit || number < (router ? 0 : -1)) return false;
    if (router) continue;
    ended = ended || number < 0;
    if (number >= 0 && (ended || number <= last)) return false;
    last = number;
  }
  return true;
}

}  // namespace

std::vector<Chooser> TinyModel::choosers() const {
  std::vector<Chooser> all;
  for (const int32_t chosen : recorder_.choices) {
    const auto op = std::find_if(ops_.begin(), ops_.end(), [&](const hadal_op& o) {
      return chooses(o.id) && o.operands[chosen_operand(o.id)] == chosen;
    });
    Chooser& chooser = all.emplace_back(Chooser{.op = *op, .bias = {}, .fan = 0});
    chooser.fan = recorder_.tensors[static_cast<size_t>(chosen)].extents[1];
    for (const auto& [index, data] : recorder_.weights)
      if (op->id == HADAL_OP_ROUTER && index == op->operands[HADAL_ROUTER_BIAS])
        chooser.bias = data->values;
  }
  return all;
}

void TinyModel::keep_choices() {
  for (size_t op = 0; op < recorder_.choices.size(); ++op) {
    const hadal_tensor& t = at(recorder_.choices[op]);
    const bool router = std::any_of(ops_.begin(), ops_.end(), [&](const hadal_op& o) {
      return o.id == HADAL_OP_ROUTER && o.operands[HADAL_ROUTER_EXPERT] == recorder_.choices[op];
    });
    for (size_t row = 0; row < rows_.size(); ++row) {
      Choice choice(static_cast<size_t>(t.extents[1]));
      std::memcpy(choice.data(),
                  output_image_.data() + t.offset + row * static_cast<uint64_t>(t.strides[0]),
                  choice.size() * sizeof(int32_t));
      // Without row_invariant a list may come in any order; -1 stands behind the entries.
      if (!router)
        std::sort(choice.begin(), choice.end(), [](int32_t a, int32_t b) {
          return static_cast<uint32_t>(a) < static_cast<uint32_t>(b);
        });
      choices_.at(op, rows_[row].first, rows_[row].second) = std::move(choice);
    }
  }
}

hadal_status TinyModel::fetch(hadal_memory* memory, uint64_t offset, Bytes& to) {
  const hadal_status status =
      chip_.table.copy_out(device_.queue, to.data(), memory, offset, to.size(), &error_);
  return status == HADAL_OK ? chip_.table.queue_sync(device_.queue, &error_) : status;
}

hadal_status TinyModel::fetch_rows(int32_t index, Bytes& to) {
  const hadal_tensor& t = at(index);
  // Rows of a view of columns reach beyond its own last number, as far as the memory goes.
  const uint64_t all = t.space == HADAL_SPACE_OUTPUT ? tape_.output_bytes : tape_.scratch_bytes;
  to.resize(std::min<uint64_t>(rows_.size() * static_cast<uint64_t>(t.strides[0]), all - t.offset));
  return fetch(t.space == HADAL_SPACE_OUTPUT ? outputs_ : scratch_, t.offset, to);
}

Candidates TinyModel::candidates_of(const hadal_op& op, int32_t row, const Bytes& operand,
                                    const Bytes& weight, const Bytes& plane) {
  const auto [sequence, position] = rows_[static_cast<size_t>(row)];
  if (op.id == HADAL_OP_ROUTER) {
    Candidates c;
    const hadal_tensor& logits = at(op.operands[HADAL_ROUTER_LOGITS]);
    const RowView view{operand.data(), &logits};
    for (int64_t e = 0; e < logits.extents[1]; ++e) c.scores.push_back(view.number(row, 0, e));
    return c;
  }
  const hadal_tensor& keys = at(op.operands[HADAL_INDEX_TOPK_PLANE]);
  const int32_t candidates =
      op.id == HADAL_OP_INDEX_TOPK ? op.operands[HADAL_INDEX_TOPK_CANDIDATES] : -1;
  const auto chooser = std::find(recorder_.choices.begin(), recorder_.choices.end(), candidates);
  const Choice* blocks = nullptr;
  if (candidates >= 0)
    blocks =
        choices_.find(static_cast<size_t>(chooser - recorder_.choices.begin()), sequence, position);
  return index_candidates(op, {.q = {operand.data(), &at(op.operands[HADAL_INDEX_TOPK_Q])},
                               .weight = {weight.data(), &at(op.operands[HADAL_INDEX_TOPK_WEIGHT])},
                               .row = row,
                               .position = position,
                               .candidates = blocks,
                               .key = [&, s = sequence](int64_t entry) {
                                 std::vector<float> key(static_cast<size_t>(keys.extents[2]));
                                 const int64_t block = block_of_sequence(s, entry / Tiny::kSlots);
                                 decode_to_f32(static_cast<DType>(keys.dtype),
                                               plane.data() + block * keys.strides[0] +
                                                   entry % Tiny::kSlots * keys.strides[1],
                                               keys.extents[2], key.data());
                                 return key;
                               }});
}

/// Behind an operator that chooses.
hadal_status TinyModel::follow_choice(const hadal_op& op) {
  if (!chooses(op.id)) return HADAL_OK;
  const bool router = op.id == HADAL_OP_ROUTER;
  const int32_t index = op.operands[chosen_operand(op.id)];
  const auto number =
      static_cast<size_t>(std::find(recorder_.choices.begin(), recorder_.choices.end(), index) -
                          recorder_.choices.begin());
  const auto count = static_cast<size_t>(at(index).extents[1]);
  Bytes chosen, operand, weight, plane;
  hadal_status status = fetch_rows(index, chosen);
  if (status == HADAL_OK) status = fetch_rows(op.operands[0], operand);
  if (status == HADAL_OK && !router)
    status = fetch_rows(op.operands[HADAL_INDEX_TOPK_WEIGHT], weight);
  if (status == HADAL_OK && !router) {
    plane.resize(Tiny::kBlocks * recorder_.block_bytes);
    status = fetch(planes_[at(op.operands[HADAL_INDEX_TOPK_PLANE]).index], 0, plane);
  }
  if (status != HADAL_OK) return status;
  static_assert(HADAL_ROUTER_LOGITS == 0 && HADAL_INDEX_TOPK_Q == 0 && HADAL_INDEX_BLOCKS_Q == 0);
  const std::vector<Chooser> all = choosers();
  for (size_t row = 0; row < rows_.size(); ++row) {
    const auto [sequence, position] = rows_[row];
    Candidates c = candidates_of(op, static_cast<int32_t>(row), operand, weight, plane);
    c.own = row_of(chosen, row, count);
    const Choice* other = followed_->find(number, sequence, position);
    const bool takes = other && *other != c.own && can_follow(op, *other, c);
    choices_.at(number, sequence, position) = takes ? *other : c.own;
    if (takes) {
      const hadal_tensor& t = at(index);
      chip_.table.copy_in(device_.queue, outputs_, t.offset + row * count * sizeof(int32_t),
                          other->data(), count * sizeof(int32_t), &error_);
      if (router) {
        const hadal_tensor& w = at(op.operands[HADAL_ROUTER_WEIGHT]);
        const std::vector<float> weights = router_weights(all[number], c.scores, *other, device_);
        chip_.table.copy_in(device_.queue, scratch_,
                            w.offset + row * static_cast<uint64_t>(w.strides[0]), weights.data(),
                            weights.size() * sizeof(float), &error_);
      }
    }
    candidates_.at(number, sequence, position) = std::move(c);
  }
  return chip_.table.queue_sync(device_.queue, &error_);
}

}  // namespace hadal::conformance
