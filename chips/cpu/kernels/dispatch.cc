#include "kernels/dispatch.h"

#include <array>
#include <fstream>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace hadal::cpu {
namespace {

struct Row {
  const KernelTable* table;
  bool (*runs)();
};

#if defined(__x86_64__)
// __builtin_cpu_supports also asks the operating system whether it saves the registers.
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}
bool has_avx_vnni() {  // g++ 12 has no name for it; its registers are those of AVX2
  uint32_t a = 0, b = 0, c = 0, d = 0;
  return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}
#endif

constexpr Row kRows[] = {
#if defined(__x86_64__)
    {&avx512::kTable, has_avx512},
    {&avx_vnni::kTable, has_avx_vnni},
    {&avx2::kTable, has_avx2},
#endif
    {&portable::kTable, [] { return true; }},
};

}  // namespace

std::vector<const KernelTable*> runnable_tables() {
  std::vector<const KernelTable*> tables;
  for (const Row& row : kRows)
    if (row.runs()) tables.push_back(row.table);
  return tables;
}

const KernelTable* find_table(std::string_view name) {
  for (const Row& row : kRows)
    if ((name.empty() || name == row.table->name) && row.runs()) return row.table;
  return nullptr;
}

std::string instruction_sets() {
  std::string text;
#if defined(__x86_64__)
  const auto note = [&](bool has, const char* name) {
    if (has) text += (text.empty() ? "" : " ") + std::string(name);
  };
  note(__builtin_cpu_supports("avx2"), "avx2");
  note(__builtin_cpu_supports("fma"), "fma");
  note(__builtin_cpu_supports("f16c"), "f16c");
  note(has_avx_vnni(), "avx_vnni");
  note(__builtin_cpu_supports("avx512f"), "avx512f");
  note(__builtin_cpu_supports("avx512bw"), "avx512bw");
  note(__builtin_cpu_supports("avx512vnni"), "avx512_vnni");
  note(__builtin_cpu_supports("avx512bf16"), "avx512_bf16");
#endif
  return text;
}

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.rfind("model name", 0) == 0)
      if (const size_t colon = line.find(": "); colon != std::string::npos)
        return line.substr(colon + 2);
  return "cpu";
}

}  // namespace hadal::cpu
