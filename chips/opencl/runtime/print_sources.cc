// Writes the text of every program into a folder, for tools/check/check_opencl_kernels.py.
//   opencl_sources FOLDER
#include <cstdio>
#include <fstream>

#include "runtime/sources.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("opencl_sources FOLDER\n", stderr);
    return 2;
  }
  for (const auto& [name, text] : hadal::opencl::kSources) {
    const std::string path = std::string(argv[1]) + "/" + std::string(name) + ".cl";
    std::ofstream file(path);
    file << hadal::opencl::program_source(name);
    if (!file.flush()) {
      std::fprintf(stderr, "opencl_sources: cannot write %s\n", path.c_str());
      return 1;
    }
  }
  return 0;
}
