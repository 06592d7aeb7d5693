// The metadata of a written GGUF: a folder's configuration and vocabulary under GGUF's keys, or
// another GGUF's as they are.
#pragma once

#include <cstdint>
#include <string_view>

#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_writer.h"
#include "checkpoint/names.h"

namespace hadal::quantize {

/// `{architecture}.*` from the configuration. mtp: layers of multi-token prediction that are
/// written. Errors: what no key can say, by name.
Status add_configuration(const Config& config, const Architecture& architecture, int64_t mtp,
                         GgufWriter& out);

/// tokenizer.* and general.sampling.* from a folder's tokenizer; nothing where it has none. rows:
/// of the embedding. Errors: a tokenizer that a GGUF cannot say.
Status add_vocabulary(const Checkpoint& checkpoint, int64_t rows, GgufWriter& out);

/// All metadata of a GGUF but what the writer sets anew.
Status copy_metadata(const Checkpoint& checkpoint, GgufWriter& out);

}  // namespace hadal::quantize
