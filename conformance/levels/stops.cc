// Of the level `queues`: what is told when queued work failed or was stopped, what stands behind
// it, and that the queue works again.
#include <fmt/format.h>

#include <chrono>
#include <thread>

#include "levels/queue_bench.h"

namespace hadal::conformance::queues {

// 7. After an error the queue works.
void check_errors(const Device& device, Report& report) {
  const auto again = [&](Sums& sums, hadal_status status, const std::string& what) {
    // It may be told late, but not never.
    if (status == HADAL_OK) status = sums.bench.chip_.queue_sync(device.queue, &sums.bench.error_);
    const bool told = status != HADAL_OK && sums.bench.error_.text[0] != '\0';
    report.check(kName, told, "7: " + what + " is told by queue_sync at the latest, with a text");
    if (status == HADAL_DEVICE_FAILED) return;
    sums.bench.error_ = fresh_error();
    sums.bench.put(sums.scratch, sums.x);
    sums.bench.good(sums.run());
    sums.check("7: the queue works after " + what, report);
  };
  {
    Sums sums(device);
    sums.bench.error_ = fresh_error();
    const hadal_status status = sums.bench.chip_.copy_in(device.queue, sums.scratch, 1 << 30,
                                                         sums.x.data(), 64, &sums.bench.error_);
    again(sums, status, "a copy_in beyond its memory");
  }
  {
    Sums sums(device);
    sums.bench.error_ = fresh_error();
    const hadal_op good = sums.call.ops.back();
    sums.call.ops.back().id = 9999;
    const hadal_status status = sums.run();
    // What stands before the bad operator may have been done.
    sums.call.ops.back() = good;
    again(sums, status, "an operator that does not exist");
  }
}

// 6. The stop flag, set by another thread while a step runs.
void check_stop(const Device& device, Report& report) {
  Sums sums(device);
  Bench& bench = sums.bench;
  for (const int delay_us : {0, 20, 200}) {
    int32_t stop = 0;
    sums.call.step.stop = &stop;
    bench.put(sums.scratch, sums.x);
    bench.sync();
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
      __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    });
    hadal_status status = HADAL_OK;
    for (int i = 0; i < 50 && status == HADAL_OK; ++i) status = sums.run();
    const hadal_status synced = bench.chip_.queue_sync(device.queue, nullptr);
    other.join();
    if (status == HADAL_OK) status = synced;
    report.check(kName, status == HADAL_OK || status == HADAL_STOPPED,
                 fmt::format("6: the stop flag is set by another thread after {} us: status {}",
                             delay_us, static_cast<int>(status)));
    stop = 0;
    bench.error_ = fresh_error();
    bench.put(sums.scratch, sums.x);
    bench.good(sums.run());
    sums.check("6: a step after a stopped one", report);
    sums.call.step.stop = nullptr;
  }
}

// 6, 7. A flag that is set already: either the step is done and all is well, or it is told that it
// is not, and what was queued behind it is not done either.
void check_stopped_before(const Device& device, Report& report) {
  Sums sums(device);
  Bench& bench = sums.bench;
  constexpr uint8_t kBefore = 0x11, kBehind = 0x5a;
  bench.fill(sums.other, kBytes, kBefore);
  bench.sync();
  const int32_t stop = 1;
  sums.call.step.stop = &stop;
  hadal_error error = fresh_error();
  const hadal_status called = sums.run();
  // A call that has told the error has done with it; what follows it is work of its own.
  const bool queued = called == HADAL_OK;
  hadal_status told = called;
  if (queued) {
    bench.chip_.fill(device.queue, sums.other, 0, kBytes, kBehind, &error);
    told = bench.chip_.queue_sync(device.queue, &error);
  }
  bench.error_ = fresh_error();
  bench.forget();
  if (!report.check(kName, told == HADAL_OK || told == HADAL_STOPPED,
                    fmt::format("6: a step whose stop flag is set is told with status {}, not {}",
                                static_cast<int>(told), static_cast<int>(HADAL_STOPPED))))
    return;
  if (told == HADAL_OK) {
    const bool done = bench.read(sums.scratch, kStepRows * kWidth) == sums.expected();
    report.check(
        kName, done,
        "6, 7: a step whose stop flag is set is left undone, and queue_sync says HADAL_OK");
    if (done)
      report.note(kName,
                  fmt::format("6: the stop flag is not looked at within {} operators: a long "
                              "prompt cannot be given up",
                              kRepeats));
    return;
  }
  if (!queued) return;
  Bytes found(kBytes);
  bench.good(bench.chip_.copy_out(device.queue, found.data(), sums.other, 0, kBytes, &error));
  bench.sync();
  report.check(kName, bench.why().empty() && found == Bytes(kBytes, std::byte{kBefore}),
               "7: what was queued behind a stopped step is done nevertheless " + bench.why());
}

}  // namespace hadal::conformance::queues
