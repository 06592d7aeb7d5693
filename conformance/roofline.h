// The roofline of a result, as an SVG within the page.
#pragma once

#include <string>

#include "report.h"

namespace hadal::conformance {

/// Text for HTML and for attributes in double quotes.
std::string escape(const std::string& text);
/// Why something reaches more than its roof, in a line; empty: nothing does.
std::string beyond_roof(const Json& speed);
/// `speed`: of a result. Empty where the peaks are not known.
std::string roofline(const Json& speed);

}  // namespace hadal::conformance
