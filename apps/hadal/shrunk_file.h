// A mapped file that becomes shorter while it is read.
#pragma once

namespace hadal::app {

/// From now on the program ends with a line that names the file (exit 1), not with a bare bus
/// error.
void name_shrunk_files();

}  // namespace hadal::app
