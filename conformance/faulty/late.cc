#include "late.h"

#include <algorithm>
#include <cstring>

namespace hadal::faulty::late {
namespace {

struct Item {
  Work work;
  bool always;
};

// The one state of this queue: it serves all devices of the test plug-in together.
std::vector<Item> items;
std::vector<Item> last;

}  // namespace

bool is_used(Fault fault) {
  switch (fault) {
    case kOnlyLate:
    case kEventsDoNotWait:
    case kKeepsStep:
    case kKeepsPlanes:
    case kKeepsTensors:
    case kKeepsOperators:
    case kKeepsSource:
    case kReadsTooLate:
    case kFreesAtOnce:
    case kDestroysAtOnce:
    case kStaysBroken:
    case kSwallowsErrors:
    case kReadsHostInputsLate:
    case kKeepsStop:
    case kWorksBehindStop:
    case kForgetsStop:
    case kCopiesFromPeerTooEarly:
      return true;
    default:
      return false;
  }
}

hadal_status push(Work work, bool behind_all) {
  (behind_all ? last : items).push_back({std::move(work), false});
  return HADAL_OK;
}

void push_always(std::function<void()> work) {
  items.push_back({[work = std::move(work)](hadal_error*) {
                     work();
                     return HADAL_OK;
                   },
                   true});
}

hadal_status run_all(Fault fault, hadal_error* error) {
  std::vector<Item> now;
  std::swap(now, items);
  // What is late must still find its memory: frees come behind it.
  if (!last.empty())
    std::stable_partition(now.begin(), now.end(), [](const Item& item) { return !item.always; });
  const auto frees = std::find_if(now.begin(), now.end(), [](const Item& i) { return i.always; });
  now.insert(last.empty() ? now.end() : frees, last.begin(), last.end());
  last.clear();
  hadal_status status = HADAL_OK;
  for (const Item& item : now) {
    if (item.always)
      item.work(nullptr);
    else if (status == HADAL_OK || (fault == kWorksBehindStop && status == HADAL_STOPPED))
      status = std::max(status, item.work(error));
  }
  return fault == kForgetsStop && status == HADAL_STOPPED ? HADAL_OK : status;
}

Call::Call(Fault fault, const hadal_tape& from, const hadal_step& step)
    : fault_(fault),
      callers_tape_(&from),
      callers_step_(&step),
      tape_(from),
      step_(step),
      tensors_(from.tensors, from.tensors + from.tensor_count),
      ops_(from.ops, from.ops + from.op_count),
      planes_(step.planes, step.planes + step.plane_count) {}

hadal_tape Call::tape_now() const {
  hadal_tape tape = tape_;
  tape.tensors = fault_ == kKeepsTensors ? callers_tape_->tensors : tensors_.data();
  tape.ops = fault_ == kKeepsOperators ? callers_tape_->ops : ops_.data();
  return tape;
}

hadal_step Call::step_now() const {
  hadal_step step = fault_ == kKeepsStep ? *callers_step_ : step_;
  if (fault_ == kReadsHostInputsLate && step.host_inputs)
    std::memcpy(host_chip::memory(step.inputs)->data, step.host_inputs, tape_.input_bytes);
  step.host_inputs = nullptr;
  if (fault_ == kKeepsStop) step.stop = callers_step_->stop;
  if (fault_ != kKeepsPlanes) step.planes = planes_.data();
  return step;
}

}  // namespace hadal::faulty::late
