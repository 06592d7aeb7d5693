#include "engine/segments.h"

#include <algorithm>
#include <bit>

#include "contract/operators.h"
#include "engine/working_memory.h"

namespace hadal {
// ---- Holders

void Holders::cut(uint64_t at) {
  auto after = stretches_.upper_bound(at);
  if (after == stretches_.begin()) return;
  Stretch& s = std::prev(after)->second;
  if (s.begin == at || s.end <= at) return;
  stretches_.emplace(at, Stretch{at, s.end, s.places});
  s.end = at;
}

void Holders::forget(uint64_t begin, uint64_t end) {
  cut(begin);
  cut(end);
  stretches_.erase(stretches_.lower_bound(begin), stretches_.lower_bound(end));
}

void Holders::written(uint64_t begin, uint64_t end, size_t place) {
  forget(begin, end);
  if (begin < end) stretches_.emplace(begin, Stretch{begin, end, Mask{1} << place});
}

void Holders::copied(uint64_t begin, uint64_t end, size_t place) {
  cut(begin);
  cut(end);
  for (auto s = stretches_.lower_bound(begin); s != stretches_.end() && s->first < end; ++s)
    s->second.places |= Mask{1} << place;
}

std::vector<Holders::Stretch> Holders::within(uint64_t begin, uint64_t end) const {
  std::vector<Stretch> found;
  auto s = stretches_.upper_bound(begin);
  if (s != stretches_.begin()) --s;
  for (; s != stretches_.end() && s->first < end; ++s) {
    const Stretch part = {std::max(begin, s->second.begin), std::min(end, s->second.end),
                          s->second.places};
    if (part.begin < part.end) found.push_back(part);
  }
  return found;
}

// ---- SegmentSink

SegmentSink::Span SegmentSink::span_of(const Tensor& t) const {
  int64_t dense = sizeof(float);
  bool is_dense = true;
  for (int d = static_cast<int>(t.rank) - 1; d >= 0; --d) {
    const int64_t count = t.extents[d] * (d == 0 ? limits_[t.row_dim] : 1);
    is_dense = is_dense && (t.strides[d] == dense || count == 1);
    dense *= count;
  }
  return {t.offset, t.offset + reach(t, limits_[t.row_dim]), is_dense};
}

void SegmentSink::need(const Tensor& t, size_t place, std::vector<Transfer>& transfers) {
  const Span span = span_of(t);
  const Holders::Mask here = Holders::Mask{1} << place;
  std::vector<Holders::Stretch> missing;
  for (const Holders::Stretch& s : holders(t).within(span.begin, span.end))
    if ((s.places & here) == 0) missing.push_back(s);
  for (const Holders::Stretch& s : missing) {
    Transfer transfer{.from = static_cast<size_t>(std::countr_zero(s.places)), .rows = t};
    // A stretch that is a part of the operand alone travels whole, whatever the step's rows.
    if (s.begin != span.begin || s.end != span.end) {
      transfer.rows = make_tensor(HADAL_I32, static_cast<hadal_space>(t.space), HADAL_DIM_CONST,
                                  {static_cast<int64_t>((s.end - s.begin) / sizeof(int32_t))});
      transfer.rows.offset = s.begin;
    }
    transfers.push_back(transfer);
    holders(t).copied(s.begin, s.end, place);
  }
}

void SegmentSink::op(const hadal_op& op, std::span<const Tensor> tensors) {
  const size_t place = placer_.of(op, tensors);
  std::vector<Transfer> transfers;
  for (uint32_t i = 0; places_ > 1 && i < tensors.size(); ++i) {
    const Tensor& t = tensors[i];
    if (!is_working_memory(t)) continue;
    if (is_read(contract::operand_role(op.id, i)) || !span_of(t).dense) need(t, place, transfers);
  }
  for (uint32_t i = 0; places_ > 1 && i < tensors.size(); ++i) {
    const Tensor& t = tensors[i];
    if (!is_working_memory(t) || !is_written(contract::operand_role(op.id, i))) continue;
    const Span span = span_of(t);
    holders(t).written(span.begin, span.end, place);
  }
  std::vector<Segment>& segments = tape_.segments;
  const bool sums = op.id == HADAL_OP_ALL_REDUCE && !chip_sums_;
  if (segments.empty() || segments.back().place != place || !transfers.empty() || sums ||
      segments.back().sums || segments.back().chooses)
    segments.push_back({.place = place,
                        .first = static_cast<uint32_t>(tape_.tape.ops.size()),
                        .count = 0,
                        .sums = sums,
                        .chooses = false,
                        .transfers = std::move(transfers)});
  ++segments.back().count;
  segments.back().chooses = notes_choices_ && chosen_operand(op.id);
  const auto operands = placer_.operands(place, tensors, true);
  record_.op(op, std::span(operands).first(tensors.size()));
}

void SegmentSink::release(uint64_t begin, uint64_t end, uint64_t ops_in_scope) {
  record_.release(begin, end, ops_in_scope);
  scratch_.forget(begin, end);
}

// ---- SegmentedTape

void SegmentedTape::clear() {
  events_.clear();
  bounce_.reset();
  bounce_bytes_ = 0;
  programs_.clear();
  heads_.clear();
  segments.clear();
  outputs = {};
  tape = {};
}

Status SegmentedTape::seal(std::vector<Place>& places, const StepLayout& layout,
                           uint64_t scratch_bytes) {
  for (const Segment& segment : segments) {
    const Place& place = places[segment.place];
    tape.seal(layout, scratch_bytes, static_cast<uint32_t>(place.plane_handles.size()));
    hadal_tape& head = heads_.emplace_back(tape.head);
    head.ops += segment.first;
    head.op_count = segment.count;
    DeviceProgram& program = programs_.emplace_back();
    if (!place.device->has_program() || segment.sums) continue;
    HADAL_TRY(program, place.device->prepare(head));
  }
  return {};
}

std::span<std::byte> SegmentedTape::bounce(const std::vector<Place>& places, uint64_t bytes) const {
  if (bounce_bytes_ < bytes) {
    const auto with_events = std::find_if(places.begin(), places.end(), [](const Place& place) {
      return place.device->has_events();
    });
    const Place& place = with_events == places.end() ? places[0] : *with_events;
    bounce_ = place.device->host_buffer(bytes);
    bounce_bytes_ = bytes;
  }
  return {bounce_.get(), bytes};
}

Status SegmentedTape::copy(std::vector<Place>& places, const Segment& segment, const Rows& rows,
                           uint64_t& transferred) const {
  const Place& target = places[segment.place];
  const auto bytes_of = [&](const Tensor& t) { return reach(t, rows[t.row_dim]); };
  uint64_t through_host = 0;
  std::vector<const Transfer*> waiting;
  for (const Transfer& transfer : segment.transfers) {
    const uint64_t bytes = bytes_of(transfer.rows);
    transferred += bytes;
    if (bytes == 0) continue;
    if (target.device->is_peer(*places[transfer.from].device)) {
      HADAL_TRY(copy_between_peers(places, transfer, segment.place, bytes));
      continue;
    }
    waiting.push_back(&transfer);
    through_host += bytes;
  }
  if (waiting.empty()) return {};
  const std::span<std::byte> data = bounce(places, through_host);
  uint64_t at = 0;
  Status arrived;
  for (const Transfer* transfer : waiting) {
    const Place& source = places[transfer->from];
    const uint64_t bytes = bytes_of(transfer->rows);
    if (arrived)
      arrived = source.device->copy_out(data.subspan(at, bytes), memory_of(source, transfer->rows),
                                        transfer->rows.offset);
    at += bytes;
  }
  // One wait for each device that is left, even behind an error: what was queued is on its way.
  for (size_t i = 0; i < places.size(); ++i) {
    if (std::none_of(waiting.begin(), waiting.end(),
                     [&](const Transfer* t) { return t->from == i; }))
      continue;
    if (Status status = places[i].device->sync(); arrived) arrived = std::move(status);
  }
  HADAL_TRY(arrived);
  at = 0;
  for (const Transfer* transfer : waiting) {
    const uint64_t bytes = bytes_of(transfer->rows);
    HADAL_TRY(target.device->copy_in(memory_of(target, transfer->rows), transfer->rows.offset,
                                     data.subspan(at, bytes)));
    at += bytes;
  }
  return target.device->copies_at_once() ? Status() : target.device->sync();
}

Status SegmentedTape::copy_between_peers(std::vector<Place>& places, const Transfer& transfer,
                                         size_t to, uint64_t bytes) const {
  const Tensor& t = transfer.rows;
  const Place &source = places[transfer.from], &target = places[to];
  events_.resize(places.size());
  for (const size_t place : {transfer.from, to})
    if (!events_[place]) {
      HADAL_TRY(events_[place], places[place].device->make_event());
    }
  HADAL_TRY(target.device->wait_for(*source.device, events_[transfer.from]));
  HADAL_TRY(target.device->copy_from_peer(memory_of(target, t), t.offset, memory_of(source, t),
                                          t.offset, bytes));
  // The source must not write there again before that.
  return source.device->wait_for(*target.device, events_[to]);
}

Status SegmentedTape::sum(std::vector<Place>& places, size_t at, const Tensor& x, const Rows& rows,
                          Communicator& ranks) const {
  const uint64_t bytes = reach(x, rows[x.row_dim]);
  if (bytes == 0) return {};
  const std::span<std::byte> data = bounce(places, bytes);
  const Place& place = places[at];
  const DeviceMemory& memory = memory_of(place, x);
  HADAL_TRY(place.device->copy_out(data, memory, x.offset));
  HADAL_TRY(place.device->sync());
  HADAL_TRY(ranks.all_reduce({reinterpret_cast<float*>(data.data()), bytes / sizeof(float)}));
  HADAL_TRY(place.device->copy_in(memory, x.offset, data));
  return place.device->copies_at_once() ? Status() : place.device->sync();
}

Status SegmentedTape::note_choice(const Place& place, const hadal_op& op, const Rows& rows,
                                  ChoiceLog& choices) const {
  const Tensor& list = tape.tensors[static_cast<size_t>(op.operands[*chosen_operand(op.id)])];
  HADAL_TRY(ChosenRows chosen, read_choice(place, op.id, list, rows[list.row_dim]));
  choices.push_back(std::move(chosen));
  return {};
}

Status SegmentedTape::run(std::vector<Place>& places, const std::vector<hadal_step>& steps,
                          const Rows& rows, Communicator* ranks, ChoiceLog* choices,
                          uint64_t& transferred) const {
  for (size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    const hadal_step& step = steps[segment.place];
    HADAL_TRY(copy(places, segment, rows, transferred));
    const Device& device = *places[segment.place].device;
    if (segment.sums) {
      const hadal_op& op = tape.ops[segment.first];
      const Tensor& x = tape.tensors[static_cast<size_t>(op.operands[HADAL_ALL_REDUCE_X])];
      HADAL_TRY(sum(places, segment.place, x, rows, *ranks));
      continue;
    }
    if (programs_[i])
      HADAL_TRY(device.run_program(programs_[i], step));
    else
      HADAL_TRY(device.run_ops(heads_[i], 0, heads_[i].op_count, step));
    if (segment.chooses) {
      const hadal_op& last = tape.ops[segment.first + segment.count - 1];
      HADAL_TRY(note_choice(places[segment.place], last, rows, *choices));
    }
  }
  return {};
}

}  // namespace hadal
