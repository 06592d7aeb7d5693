// Segments: a tape cut by device, with the copies at the cuts.
//
// Every place has memories of the same layout for inputs, outputs and scratch, so an operand has
// one offset everywhere. While operators are recorded, SegmentSink follows which places hold the
// newest bytes of each stretch of scratch and outputs; an operator that reads what its place lacks
// begins a new segment, and the stretch is copied before that. With one place there is one segment
// and nothing is followed.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "device/communicator.h"
#include "engine/choices.h"
#include "engine/place.h"
#include "engine/placer.h"
#include "ops/sink.h"

namespace hadal {

/// Which places hold the newest bytes of a memory, by stretches.
class Holders {
 public:
  /// A bit for each place.
  using Mask = uint64_t;
  static constexpr size_t kMostPlaces = 64;
  struct Stretch {
    uint64_t begin = 0, end = 0;
    Mask places = 0;
  };
  /// Only this place holds the newest bytes; or: this place holds them, too.
  void written(uint64_t begin, uint64_t end, size_t place);
  void copied(uint64_t begin, uint64_t end, size_t place);
  /// Nobody asks for these bytes again.
  void forget(uint64_t begin, uint64_t end);
  /// What was written within [begin, end), in ascending order.
  [[nodiscard]] std::vector<Stretch> within(uint64_t begin, uint64_t end) const;

 private:
  void cut(uint64_t at);
  std::map<uint64_t, Stretch> stretches_;  // by their begin
};

/// Rows that go from one place to that of a segment before it runs.
struct Transfer {
  size_t from = 0;
  Tensor rows{};  ///< of scratch or outputs: the bytes from its first row to its last
};

struct Segment {
  size_t place = 0;
  uint32_t first = 0, count = 0;  ///< operators of the tape
  bool sums = false;              ///< its one operator is an all_reduce that the host does
  bool chooses = false;           ///< what its last operator chooses is noted
  std::vector<Transfer> transfers;
};

/// A recorded pass. Does not move once it is sealed.
struct SegmentedTape {
  using Rows = std::array<int64_t, HADAL_DIM_COUNT>;
  Tape tape;
  std::vector<Segment> segments;
  Holders outputs;  ///< where the newest outputs are when it has run

  /// Fills the heads; `planes`: the memories that a step of a place carries.
  Status seal(std::vector<Place>& places, const StepLayout& layout, uint64_t scratch_bytes);
  [[nodiscard]] bool recorded() const { return !segments.empty(); }
  void clear();

  /// Queues one step. `steps`: of each place, filled up as its device asks; rows: those that count,
  /// which are all that is copied and summed; ranks: null where the model is whole; choices: where
  /// those that are noted go, if any are. transferred: grows by the bytes that were copied at cuts.
  /// An Error with kInterrupted if the stop flag was seen.
  Status run(std::vector<Place>& places, const std::vector<hadal_step>& steps, const Rows& rows,
             Communicator* ranks, ChoiceLog* choices, uint64_t& transferred) const;

 private:
  Status sum(std::vector<Place>& places, size_t at, const Tensor& x, const Rows& rows,
             Communicator& ranks) const;
  Status note_choice(const Place& place, const hadal_op& op, const Rows& rows,
                     ChoiceLog& choices) const;
  /// What a segment reads and its place lacks.
  Status copy(std::vector<Place>& places, const Segment& segment, const Rows& rows,
              uint64_t& transferred) const;
  /// On the queues of both, for which the host does not wait.
  Status copy_between_peers(std::vector<Place>& places, const Transfer& transfer, size_t to,
                            uint64_t bytes) const;
  /// Host memory for at least so many bytes, on their way from one of the places to another.
  std::span<std::byte> bounce(const std::vector<Place>& places, uint64_t bytes) const;

  std::deque<hadal_tape> heads_;  // of the segments: they stay where they are
  std::vector<DeviceProgram> programs_;
  mutable HostBuffer bounce_;
  mutable uint64_t bounce_bytes_ = 0;
  mutable std::vector<DeviceEvent> events_;  // of each place, made when they are first used
};

class SegmentSink final : public Sink {
 public:
  /// outputs: of `tape`, what an earlier pass of the step left. chip_sums: the ranks' devices sum
  /// by themselves. notes_choices: a segment ends behind each operator that chooses.
  SegmentSink(Placer& placer, size_t places, std::array<int64_t, HADAL_DIM_COUNT> limits,
              bool chip_sums, bool notes_choices, SegmentedTape& tape)
      : placer_(placer),
        places_(places),
        limits_(limits),
        chip_sums_(chip_sums),
        notes_choices_(notes_choices),
        tape_(tape),
        record_(tape.tape) {}
  void enter(const Region& region) override { placer_.enter(region); }
  void op(const hadal_op& op, std::span<const Tensor> tensors) override;
  void release(uint64_t begin, uint64_t end, uint64_t ops_in_scope) override;

 private:
  struct Span {
    uint64_t begin = 0, end = 0;
    bool dense = true;
  };
  [[nodiscard]] Span span_of(const Tensor& t) const;
  /// What must come to `place` before the operand is read or, where it has gaps, written.
  void need(const Tensor& t, size_t place, std::vector<Transfer>& transfers);
  [[nodiscard]] Holders& holders(const Tensor& t) {
    return t.space == HADAL_SPACE_SCRATCH ? scratch_ : tape_.outputs;
  }

  Placer& placer_;
  size_t places_;
  std::array<int64_t, HADAL_DIM_COUNT> limits_;
  bool chip_sums_, notes_choices_;
  SegmentedTape& tape_;
  TapeSink record_;
  Holders scratch_;
};

}  // namespace hadal
