// Weights into what a chip takes: as stored where it can, decoded to fp32 (or bf16) where it cannot
// or where that is asked.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/result.h"
#include "device/device.h"

namespace hadal {

/// A weight as it lies in host memory, whatever stored it.
struct WeightSource {
  struct Piece {
    std::span<const std::byte> data;  ///< rows · row_bytes, may be unaligned
    int64_t rows = 0;
    std::span<const std::byte> scales;  ///< block scales, row-major, empty if none
    int64_t scale_row = 0;              ///< the piece's first row within the first row of blocks
  };
  std::string name;  ///< for messages
  DType dtype = HADAL_F32;
  uint32_t uses = 0;
  int64_t batch = 1, rows = 0, cols = 0;
  DType scale_dtype = HADAL_DTYPE_NONE;
  int64_t scale_block_rows = 0, scale_block_cols = 0;
  std::vector<Piece> pieces;
  /// The pieces hold every matrix as [cols, rows]: it is decoded and turned at load.
  bool transposed = false;

  /// The chip cannot read it as it lies: it is decoded at load.
  [[nodiscard]] bool rebuilt() const;
};

/// How weights are held: in the checkpoint's own formats, or decoded to fp32 at load.
enum class WeightMode { kNative, kF32 };

/// A weight on the device with the imported host memory that it may read in place.
struct LoadedWeight {
  std::vector<DeviceMemory> sources;  // outlives `weight`: members die in reverse order
  DeviceWeight weight;
  DType dtype = HADAL_F32;  ///< as the chip was given it
};

/// The chip's description of a source.
hadal_weight_desc describe_weight(const WeightSource& source);

/// The dtype in which `device` will hold the weight: its own if taken, else HADAL_F32.
Result<DType> held_dtype(const Device& device, const WeightSource& source, WeightMode mode);

/// Bytes that the weight will take beside its source on this device.
Result<uint64_t> loaded_bytes(const Device& device, const WeightSource& source, WeightMode mode);

/// Hands the weight to the device.
Result<LoadedWeight> load_weight(const Device& device, const WeightSource& source, WeightMode mode);

}  // namespace hadal
