// Weights into what a chip takes: as stored where it can, else in the form that it likes best.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "base/weight_form.h"
#include "device/device.h"
#include "weights/source.h"

namespace hadal {

/// How weights are held: in the checkpoint's own formats, or decoded to fp32 at load.
enum class WeightMode { kNative, kF32 };

/// The form in which a device holds a weight.
struct HeldForm {
  WeightForm form;         ///< as the chip is given it
  bool as_stored = false;  ///< the source's pieces as they lie; else made of them at load
  uint64_t bytes = 0;      ///< taken beside the source; 0: the chip reads the source in place
};

/// A weight on the device with the imported host memory that it may read in place.
struct LoadedWeight {
  std::vector<DeviceMemory> sources;  // outlives `weight`: members die in reverse order
  DeviceWeight weight;
  EncodingError error;  ///< of a form that is not as stored
};

/// Asks `device` for the form: as stored if taken; BF16 and F16 sources that must be put together
/// anew (WeightSource::rebuilt) keep their type if taken; else the first form on the chip's list
/// that is no larger than the source, else the smallest. An error if it takes none.
Result<HeldForm> held_form(const Device& device, const WeightSource& source, WeightMode mode);

/// The same in the form in which another device holds it. An error if `device` does not take that.
Result<HeldForm> held_in(const Device& device, const WeightSource& source, const HeldForm& like);

/// Decodes row `row` of a piece, as stored, to out[0 … its numbers), block scales applied. False if
/// its type holds no numbers.
bool decode_row(const WeightSource& source, const WeightSource::Piece& piece, int64_t row,
                float* out);

/// All numbers of the source, block scales applied: [batch, rows, cols].
Result<std::vector<float>> decode_weight(const WeightSource& source);

/// Hands the weight to the device in a form that held_form gave; what must be encoded is, by all of
/// the pool's threads; a form that is as stored needs no pool.
Result<LoadedWeight> load_weight(const Device& device, const WeightSource& source,
                                 const HeldForm& form, ThreadPool* pool);

}  // namespace hadal
