// The pages for people: what is served and how to call it, and the description of every route.
//
// Plain HTML without a file from elsewhere and without a script.
#pragma once

#include <string>
#include <string_view>

#include "server/model_card.h"

namespace hadal::server {

/// Who looks at the front page. What comes from outside is escaped there.
struct PageView {
  std::string_view host;  ///< as the client calls the server
  bool tls = false, needs_key = false;
};
std::string front_page(const ModelCard& card, const PageView& view);
/// OpenAPI 3.1 of all routes.
std::string openapi_json();
/// The same for people.
std::string docs_page();

}  // namespace hadal::server
