#include "contract/report.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace hadal::contract {

hadal_status report(hadal_error* error, hadal_status status, std::string_view text) {
  if (error && error->size > offsetof(hadal_error, text)) {
    const size_t room =
        std::min<size_t>(error->size, sizeof(hadal_error)) - offsetof(hadal_error, text);
    const size_t n = std::min(room - 1, text.size());
    std::memcpy(error->text, text.data(), n);
    error->text[n] = '\0';
  }
  return status;
}

}  // namespace hadal::contract
