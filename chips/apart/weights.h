// Weight handles: which forms are taken, and the packed copy on the device. A handle is a
// ref::Weight, so that operators of chips/ref read it; nothing of the source is kept.
#pragma once

#include <cstdint>
#include <memory>

#include "chip.h"
#include "ref/ref.h"

namespace hadal::apart {

struct Device;
class Queue;

struct Weight : ref::Weight {
  Device* device = nullptr;
  std::shared_ptr<Weight> self;  ///< what weight_destroy hands over
};

inline Weight* weight_of(hadal_weight* w) {
  return static_cast<Weight*>(reinterpret_cast<ref::Weight*>(w));
}

/// Why weights of `dtype` cannot serve `use` (one bit); empty if they can.
std::string check_dtype(Kind kind, uint32_t use, uint32_t dtype);

hadal_status weight_bytes(Kind kind, const hadal_weight_desc& desc, uint64_t* bytes,
                          hadal_error* error);
/// `forms` has room for *count; *count becomes the number there is.
void weight_forms(Kind kind, uint32_t use, hadal_weight_form* forms, uint32_t* count);
/// queue: where the upload is queued; null: it is done on return.
hadal_status create_weight(Device& device, Queue* queue, const hadal_weight_desc& desc,
                           const hadal_piece* pieces, uint32_t piece_count, hadal_weight** out,
                           hadal_error* error);
void weight_destroy(hadal_weight* w);

}  // namespace hadal::apart
