// Place: one of the devices that a model runs on, with what it holds there: weights, caches,
// working memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device/device.h"
#include "weights/loader.h"

namespace hadal {

struct Place {
  std::string name;  ///< as placements call it
  std::unique_ptr<Device> device;
  // Destroyed in reverse order: weights before the memories that they may read.
  DeviceMemory inputs, outputs, scratch, workspace;
  std::vector<DeviceMemory> planes;  ///< a layer of a plane each, in the order of plane_handles
  std::vector<hadal_memory*> plane_handles;
  std::unique_ptr<WeightLoader> loader;
  uint64_t workspace_bytes = 0;

  /// Gives back what the device holds.
  void release() {
    loader.reset();
    planes.clear();
    plane_handles.clear();
    workspace.reset();
    scratch.reset();
    outputs.reset();
    inputs.reset();
  }
};

}  // namespace hadal
