// The self-test of plug-ins: right ones pass, and each planted fault of an operator that it looks
// at is told by the operator's name.
#include "device/self_test.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

namespace hadal {
namespace {

TEST(SelfTest, ChipsThatComputeRightPass) {
  for (const char* chip : {"ref", "cpu", HADAL_APART_HALF, HADAL_APART_ROW8}) {
    const auto device = Device::open({.chip = chip});
    ASSERT_TRUE(device) << device.error().message;
    const Status status = self_test(**device);
    EXPECT_TRUE(status) << status.error().message;
  }
}

TEST(SelfTest, NamesWhatIsWrong) {
  const std::pair<const char*, const char*> faults[] = {
      {"1", "matmul"}, {"30", "rope"}, {"60", "gqa_attention"}, {"0", ""}};
  for (const auto& [number, what] : faults) {
    ::setenv("HADAL_FAULT", number, 1);
    const auto device = Device::open({.chip = HADAL_FAULTY_CHIP});
    ::unsetenv("HADAL_FAULT");
    if (std::string_view(what).empty()) {
      EXPECT_TRUE(device) << device.error().message;
      continue;
    }
    ASSERT_FALSE(device) << what;
    EXPECT_NE(device.error().message.find("computes " + std::string(what) + " wrong: row "),
              std::string::npos)
        << device.error().message;
  }
}

}  // namespace
}  // namespace hadal
