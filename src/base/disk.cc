#include "base/disk.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

namespace hadal {

std::optional<double> disk_bytes_per_second(const std::filesystem::path& file, double seconds) {
  constexpr uint64_t kRead = uint64_t{3} << 20, kPage = 4096;
  constexpr int kAtOnce = 8;
  const int fd = ::open(file.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  const off_t size = ::lseek(fd, 0, SEEK_END);
  std::atomic<uint64_t> bytes{0};
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  const auto read_some = [&](uint64_t seed) {
    const std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(kPage, kRead),
                                                             &std::free);
    const uint64_t places = (static_cast<uint64_t>(size) - kRead) / kPage + 1;
    for (uint64_t i = seed; memory && elapsed() < seconds; ++i) {
      // Fibonacci hashing: places all over the file.
      const uint64_t place = ((i * 0x9e3779b97f4a7c15ULL) >> 32) % places * kPage;
      const ssize_t got = ::pread(fd, memory.get(), kRead, static_cast<off_t>(place));
      if (got <= 0) return;
      bytes += static_cast<uint64_t>(got);
    }
  };
  if (size >= static_cast<off_t>(kRead)) {
    std::vector<std::thread> threads;
    try {
      for (int i = 0; i < kAtOnce; ++i)
        threads.emplace_back(read_some, static_cast<uint64_t>(i) << 32);
    } catch (const std::system_error&) {  // no more threads: those that there are will do
    }
    for (std::thread& thread : threads) thread.join();
  }
  ::close(fd);
  if (bytes == 0) return std::nullopt;
  return static_cast<double>(bytes) / elapsed();
}

}  // namespace hadal
