// ModelCard: what an API tells of the model that is served.
//
// Owns how it is found out: names, sizes, what the model can do. Knows no API's form of it
// (ollama_models.h has one). Made once, when the model is open; immutable, so any thread may read
// it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "session/session.h"

namespace hadal::server {

struct ModelCard {
  std::string name = {};                   ///< as responses call it
  std::vector<std::string> aliases = {};   ///< that requests may call it by, too
  std::vector<std::string> adapters = {};  ///< names of loaded adapters: requests name one as model
  std::string digest = {};                 ///< of the checkpoint: 64 hexadecimal digits
  std::string family = {};                 ///< config.json's model_type
  std::string parameter_size = {};         ///< "1.5B"
  std::string quantization = {};           ///< "Q4_K_M", "FP8", "BF16", …
  std::string format = {};                 ///< "gguf", "safetensors"
  int64_t parameters = 0;                  ///< values of all tensors
  int64_t bytes = 0;                       ///< of the files
  int64_t context_length = 0;              ///< tokens: the model's limit
  int64_t served_context = 0;              ///< tokens: of the longest sequence that is served
  int64_t embedding_length = 0;            ///< width of the hidden rows
  int64_t layers = 0;
  int64_t vocabulary = 0;     ///< ids
  int64_t created = 0;        ///< seconds since 1970: when the file was last written; 0: not known
  bool thinks = false;        ///< its chat format has a thought
  bool calls_tools = false;   ///< its chat format declares tools
  bool fills_middle = false;  ///< its tokenizer has the marks
  std::string chat_format = {};    ///< "" if it has none: the model cannot chat
  std::string chat_template = {};  ///< Jinja text of the checkpoint; "" if there is none
  /// The family's own fields, as config.json names them.
  std::vector<std::pair<std::string, std::string>> fields = {};
};

/// Reads the start of every tensor, for the digest.
ModelCard describe_model(const Session& session, std::string name);

/// Whether a request that asks for a model by this name means the one that is served: its name, an
/// alias, an adapter; each with Ollama's ":latest" or without it.
bool names_model(const ModelCard& card, std::string_view asked);

/// "671.0B", "134.52M", "12K"
std::string parameter_size(int64_t parameters);
/// The kind of a GGUF by its general.file_type, "Q4_K_M" of 15; "" of an unknown one.
std::string_view gguf_file_type(int64_t type);
/// What types of tensors are called for people: "FP8" of F8_E4M3; else as in dtypes.inc.
std::string_view type_in_words(DType type);

}  // namespace hadal::server
