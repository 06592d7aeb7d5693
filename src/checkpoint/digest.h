// The digest of a checkpoint: which model it is, without reading all of it.
#pragma once

#include "base/hash.h"
#include "checkpoint/checkpoint.h"

namespace hadal {

/// SHA-256 of the configuration, the directory of tensors (names, types, shapes, places), the
/// files' sizes and the first 4 KiB of every tensor. Two files that differ behind those alone have
/// one digest: it tells models apart, it does not vouch for them.
Digest model_digest(const Checkpoint& checkpoint);

}  // namespace hadal
