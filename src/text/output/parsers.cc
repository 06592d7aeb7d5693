#include "text/output/parsers.h"

namespace hadal {

Step CallReader::read(std::string_view text) {
  in_.grow(text);
  if (!begun_) {
    in_.skip_blanks();
    begin_ = in_.at();
    if (const Step step = in_.take(call_begin_); step != Step::kDone) return step;
    begun_ = true;
  }
  while (!whole_)
    if (const Step now = step(); now != Step::kDone) return now;
  return Step::kDone;
}

}  // namespace hadal
