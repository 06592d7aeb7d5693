#include "weights/file_table.h"

#include <gtest/gtest.h>

#include "weights/binder.h"
#include "weights/testing.h"

namespace hadal {
namespace {

using testing::bytes_of;
using testing::TestCheckpoint;

FileTable bind(const TestCheckpoint& checkpoint, int64_t rows, int64_t cols) {
  std::deque<Weight> slots;
  std::vector<std::string> unused;
  WeightBinder binder(*checkpoint, slots);
  FileTable table = binder.file_table("t.weight", rows, cols);
  const Status status = binder.finish(unused);
  EXPECT_TRUE(status) << status.error().message;
  EXPECT_TRUE(slots.empty());  // nothing to load
  return table;
}

TEST(FileTable, ReadsARow) {
  const TestCheckpoint checkpoint(
      {{"t.weight", "F32", "3,2", bytes_of<float>({1, 2, 3, 4, 5, 6})}});
  const FileTable table = bind(checkpoint, 3, 2);
  EXPECT_EQ(table.bytes(), 24U);
  std::vector<float> row(2);
  table.fetch_ahead(2);
  table.read(2, row.data());
  EXPECT_EQ(row, (std::vector<float>{5, 6}));
}

TEST(FileTable, AppliesTheScalesOfARow) {
  constexpr int64_t kCols = 40;  // one whole block of 32 and a cut one
  std::string ones(2 * kCols, 0x38);
  const TestCheckpoint checkpoint(
      {{"t.weight", "F8_E4M3", "2,40", ones}, {"t.scale", "F8_E8M0", "2,2", "\x7f\x80\x81\x82"}});
  const FileTable table = bind(checkpoint, 2, kCols);
  std::vector<float> row(kCols);
  table.read(1, row.data());
  EXPECT_EQ(row[0], 4);
  EXPECT_EQ(row[31], 4);
  EXPECT_EQ(row[32], 8);
  EXPECT_EQ(row[39], 8);
}

}  // namespace
}  // namespace hadal
