// What Ollama's API tells of models: the bodies of GET /api/tags, /api/ps, /api/version and of POST
// /api/show, and the reading of the last one's.
//
// One model is served, and its adapters under names of their own. A name without a tag is shown
// with Ollama's ":latest"; names_model() takes both. Nothing here loads, pulls or removes anything.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "server/fields.h"
#include "server/model_card.h"

namespace hadal::server {

/// The version of Ollama whose API is spoken: clients refuse servers that are older than they like.
inline constexpr std::string_view kOllamaVersion = "0.12.11";

/// What a served model takes, in bytes.
struct ServedMemory {
  int64_t bytes = 0;           ///< all of it
  int64_t on_accelerator = 0;  ///< of these: in a GPU's own memory
};

/// A body of POST /api/show.
struct OllamaShow {
  std::string model = {};
  bool verbose = false;
};

/// "model" or, as older clients have it, "name". Errors: kUsage with the path of the field.
Result<OllamaShow> read_ollama_show(const Json& body);

std::string tags_body(const ModelCard& card);
/// The model that is loaded; it never expires.
std::string ps_body(const ModelCard& card, const ServedMemory& memory);
/// `verbose`: the family's own fields, too, as texts. `asked`: the name of the model or of one of
/// its adapters; "" for the model.
std::string show_body(const ModelCard& card, bool verbose, std::string_view asked = {});
/// kOllamaVersion, and Hadal's own version as "hadal".
std::string version_body();

/// With ":latest" where it has no tag.
std::string tagged(std::string_view name);

}  // namespace hadal::server
