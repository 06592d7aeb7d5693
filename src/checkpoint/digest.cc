#include "checkpoint/digest.h"

#include <algorithm>

namespace hadal {

Digest model_digest(const Checkpoint& checkpoint) {
  constexpr size_t kFront = 4096;
  Sha256 sha;
  for (const auto& [key, value] : checkpoint.metadata()) sha.add(key).add(value);
  for (const MappedFile& file : checkpoint.files())
    sha.add(static_cast<uint64_t>(file.bytes().size()));
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    sha.add(tensor.name).add(static_cast<uint64_t>(tensor.dtype));
    for (const int64_t extent : tensor.shape) sha.add(static_cast<uint64_t>(extent));
    sha.add(static_cast<uint64_t>(tensor.file));
    sha.add(
        static_cast<uint64_t>(tensor.data.data() - checkpoint.files()[tensor.file].bytes().data()));
    sha.add(tensor.data.first(std::min(kFront, tensor.data.size())));
  }
  return sha.finish();
}

}  // namespace hadal
