#include "base/limits.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace hadal {
namespace {

TEST(Limits, EveryRowHoldsAtItsBoundsAndNotBeyond) {
  for (const Limit& row : kLimits) {
    SCOPED_TRACE(std::string(row.name));
    if (row.whole) {
      EXPECT_TRUE(check_limit(row, row.least));
      EXPECT_TRUE(check_limit(row, row.most));
      if (row.least > INT64_MIN) {
        EXPECT_FALSE(check_limit(row, row.least - 1));
      }
      if (row.most < INT64_MAX) {
        EXPECT_FALSE(check_limit(row, row.most + 1));
      }
    } else {
      EXPECT_TRUE(check_limit(row, row.low));
      EXPECT_TRUE(check_limit(row, row.high));
      EXPECT_FALSE(check_limit(row, std::nextafter(row.low, -HUGE_VAL)));
      EXPECT_FALSE(check_limit(row, std::nextafter(row.high, HUGE_VAL)));
      EXPECT_FALSE(check_limit(row, std::nan("")));
      EXPECT_FALSE(check_limit(row, HUGE_VAL));
      // The engine sees floats: a bound stays inside, the next float is outside.
      EXPECT_TRUE(check_limit(row, static_cast<float>(row.low)));
      EXPECT_TRUE(check_limit(row, static_cast<float>(row.high)));
      EXPECT_FALSE(check_limit(row, std::nextafterf(static_cast<float>(row.low), -HUGE_VALF)));
      EXPECT_FALSE(check_limit(row, std::nextafterf(static_cast<float>(row.high), HUGE_VALF)));
      EXPECT_FALSE(check_limit(row, std::nanf("")));
    }
    if (row.standard) {
      EXPECT_TRUE(check_limit(row, *row.standard));
    }
  }
}

TEST(Limits, RowsAreSoundAndTheirNamesUnique) {
  std::set<std::string_view> names;
  for (const Limit& row : kLimits) {
    SCOPED_TRACE(std::string(row.name));
    EXPECT_TRUE(names.insert(row.name).second);
    EXPECT_FALSE(row.unit.empty());
    EXPECT_LT(row.low, row.high);
    EXPECT_TRUE(!row.whole || row.least < row.most);
    EXPECT_TRUE(row.of == LimitOf::kNumber || row.whole);
  }
}

TEST(Limits, ErrorsNameTheFieldWhatWasFoundAndTheRange) {
  EXPECT_EQ(check_limit(limit("temperature"), 100.5).error().message,
            "temperature: 100.5 was found, a number from 0 to 100 is expected");
  EXPECT_EQ(check_limit(limit("repetition_penalty"), 0.001F).error().message,
            "repetition_penalty: 0.001 was found, a number from 0.01 to 100 is expected");
  EXPECT_EQ(check_limit(limit("n"), int64_t{0}).error().message,
            "n: 0 was found, a whole number from 1 to 128 is expected");
  EXPECT_EQ(check_limit(limit("stop"), int64_t{65}).error().message,
            "stop: 65 entries were found, 0 to 64 entries are expected");
  EXPECT_EQ(check_limit(limit("stop[]"), int64_t{0}, "stop[3]").error().message,
            "stop[3]: 0 bytes were found, 1 to 1024 bytes are expected");
}

}  // namespace
}  // namespace hadal
