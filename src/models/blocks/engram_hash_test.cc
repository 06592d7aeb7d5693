// Expected multipliers come from numpy 2.4.6, expected rows from the formula written down in Python
// with numpy's int64, primes by trial division.
#include "models/blocks/engram_hash.h"

#include <gtest/gtest.h>

#include <numeric>

namespace hadal {
namespace {

using Numbers = std::vector<int64_t>;

/// The published values of DeepSeek-V4.1 but for what a test changes.
EngramHash::Config published(Numbers layers) {
  return {.layer_ids = std::move(layers),
          .vocab_size = 16'000'000,
          .max_ngram_size = 4,
          .n_heads = 8,
          .pad_id = 2,
          .compressed_vocab_size = 99092};
}

EngramHash made(EngramHash::Config config) {
  auto hash = EngramHash::make(std::move(config));
  if (!hash) throw std::runtime_error(hash.error().message);
  return *std::move(hash);
}

Numbers list(std::span<const int64_t> numbers) { return {numbers.begin(), numbers.end()}; }

Numbers multipliers(int64_t layer, int64_t compressed_vocab_size, int64_t count) {
  EngramHash::Config config = published({layer});
  config.compressed_vocab_size = compressed_vocab_size;
  config.max_ngram_size = count;
  config.pad_id = 0;
  return list(made(std::move(config)).multipliers(0));
}

Numbers rows(const EngramHash& hash, const std::vector<int32_t>& tokens, int64_t position,
             size_t layer) {
  Numbers out(hash.rows_per_token(), -1);
  hash.rows(tokens, position, layer, out);
  return out;
}

TEST(EngramHash, MultipliersAreThoseOfNumpy) {
  const EngramHash hash = made(published({0, 1, 2, 14, 37, 1000, INT32_MAX}));
  const std::vector<Numbers> expected = {
      {59287678272599, 25111444230055, 3813769577005, 1538373747317},
      {76632096046245, 4839876093313, 35959672319349, 73987337458391},
      {76507469730479, 37097805264573, 22647385550623, 71424551940645},
      {67716810739261, 51510806800915, 30921347202721, 82619226485591},
      {12873589143223, 86907504043951, 82630225105031, 89103602132645},
      {36181673634539, 79086439201969, 70119233547177, 68377294421417},
      {72117021328655, 9718732535123, 26909966603993, 58347409521851}};  // a seed of two words
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(list(hash.multipliers(i)), expected[i]);
}

TEST(EngramHash, MultipliersOfOtherVocabularies) {
  EXPECT_EQ(multipliers(1, 1, 5),
            (Numbers{7593627661414633239, 479593001838623259, 3563315849468963733,
                     7331553243427025311, 3959433267402557499}));
  EXPECT_EQ(multipliers(14, 2, 5),
            (Numbers{3355097104887443523, 2552154433758184157, 1532029068506037381,
                     4093452195455176997, 2495520935813751149}));
  EXPECT_EQ(multipliers(14, 7, 5),
            (Numbers{958599172824983863, 729186981073766901, 437722591001724965,
                     1169557770130050571, 713005981661071757}));
  EXPECT_EQ(multipliers(14, 1073741824, 5),
            (Numbers{6946783777, 6249355345, 549590775, 4753758075, 4009747493}));
  EXPECT_EQ(multipliers(1, 1431655765, 16),
            (Numbers{966339917, 3994037839, 334991841, 3529097921, 2488947367, 1929254117,
                     5121030781, 4872968697, 1433085913, 6066712617, 145223443, 5373685437,
                     1940493623, 6116992007, 5630312369, 1838679265}));
  EXPECT_EQ(multipliers(14, 2147483648, 16),
            (Numbers{3473391887, 3124677671, 274795387, 2376879037, 2004873747, 1426813255,
                     3164095645, 3812324435, 4075455927, 2324134981, 2122767087, 1731166315,
                     346148019, 3428124507, 323342707, 3422292569}));
  EXPECT_EQ(multipliers(1, 2147483647, 5),
            (Numbers{644226611, 3536058433, 1659298245, 1286169411, 4096251625}));
  EXPECT_EQ(multipliers(14, (int64_t{1} << 40), 5),
            (Numbers{6783967, 6102885, 536709, 4642341, 3915769}));
  EXPECT_EQ(multipliers(1, (int64_t{1} << 40) + 1, 5),
            (Numbers{1258255, 6906363, 5200569, 436187, 4595179}));
  EXPECT_EQ(multipliers(1, (int64_t{1} << 61) - 1, 4), (Numbers{1, 3, 3, 1}));
  EXPECT_EQ(multipliers(1, (int64_t{1} << 60), 5), (Numbers{1, 5, 3, 1, 3}));
  EXPECT_EQ(multipliers(14, (int64_t{1} << 60) + 1, 5), (Numbers{5, 5, 1, 3, 3}));
  EXPECT_EQ(multipliers(1, (int64_t{1} << 62) - 1, 4), (Numbers{1, 1, 1, 1}));
  EXPECT_EQ(multipliers(1, (int64_t{1} << 62), 4), (Numbers{1, 1, 1, 1}));
  EXPECT_EQ(multipliers(1, INT64_MAX, 4), (Numbers{1, 1, 1, 1}));
}

TEST(EngramHash, PrimesAreThePublishedOnes) {
  const EngramHash hash = made(published({1, 14}));
  EXPECT_EQ(hash.total_rows(0), 384006168);
  EXPECT_EQ(hash.total_rows(1), 384016682);
  EXPECT_EQ(
      list(hash.primes(0)),
      (Numbers{16000057, 16000079, 16000081, 16000097, 16000121, 16000129, 16000133, 16000183,
               16000189, 16000207, 16000211, 16000253, 16000277, 16000289, 16000307, 16000321,
               16000339, 16000381, 16000393, 16000399, 16000403, 16000409, 16000447, 16000463}));
  EXPECT_EQ(hash.primes(1).front(), 16000477);
  EXPECT_EQ(hash.primes(1).back(), 16000889);
  Numbers offsets(24);
  std::exclusive_scan(hash.primes(1).begin(), hash.primes(1).end(), offsets.begin(), int64_t{0});
  EXPECT_EQ(list(hash.offsets(1)), offsets);
}

TEST(EngramHash, PrimesAtBothEnds) {
  EngramHash::Config small = published({0, 7});
  small.vocab_size = 1;
  small.max_ngram_size = 3;
  small.n_heads = 3;
  const EngramHash hash = made(small);
  EXPECT_EQ(list(hash.primes(0)), (Numbers{2, 3, 5, 7, 11, 13}));
  EXPECT_EQ(list(hash.primes(1)), (Numbers{17, 19, 23, 29, 31, 37}));
  EngramHash::Config large = published({0});
  large.vocab_size = int64_t{1} << 31;
  large.max_ngram_size = 2;
  large.n_heads = 3;
  EXPECT_EQ(list(made(large).primes(0)), (Numbers{2147483659, 2147483693, 2147483713}));
  // Several stretches of the sieve: 2^20 primes, the last of which is known.
  large.vocab_size = 1;
  large.n_heads = 1024;
  large.layer_ids.resize(1024);
  std::iota(large.layer_ids.begin(), large.layer_ids.end(), 0);
  EXPECT_EQ(made(large).primes(1023).back(), 16290047);
}

TEST(EngramHash, RowsOfThePublishedTables) {
  EngramHash::Config config = published({1, 14});
  config.token_map.resize(99092);
  std::iota(config.token_map.begin(), config.token_map.end(), 0);
  const EngramHash hash = made(std::move(config));
  const std::vector<int32_t> tokens = {2, 99091, 17, 50000, 4, 123, 99091};
  EXPECT_EQ(rows(hash, tokens, 0, 0),
            (Numbers{4299726,   29253038,  43157972,  58397134,  65256332,  88876378,
                     100686433, 112312540, 129401291, 144510675, 170979806, 184903880,
                     199719089, 215127204, 230239700, 250883315, 264341430, 275127613,
                     298781502, 318608685, 331826823, 351654054, 365224186, 370096053}));
  EXPECT_EQ(rows(hash, tokens, 2, 0),
            (Numbers{7754933,   17916340,  32020770,  49393884,  77247411,  87010280,
                     99981471,  115165195, 130341373, 150955879, 166368097, 187804009,
                     205298196, 222852524, 234192591, 245627431, 266427100, 274528290,
                     291768484, 316590808, 333213780, 342259963, 360009248, 381729171}));
  EXPECT_EQ(rows(hash, tokens, 6, 1),
            (Numbers{2180025,   30778333,  43208602,  55685240,  79181006,  86503858,
                     100556334, 117034611, 141827133, 147591477, 169100873, 186285713,
                     205029378, 209924094, 239788525, 254883989, 266508767, 273467858,
                     296869104, 308002115, 328888503, 339133812, 355183876, 374820390}));
}

TEST(EngramHash, BehindADeadTokenOrTheBeginningAllIsPadding) {
  const EngramHash hash = made({.layer_ids = {14, 3},
                                .vocab_size = 5,
                                .max_ngram_size = 3,
                                .n_heads = 2,
                                .pad_id = 4,
                                .compressed_vocab_size = 6,
                                .token_map = {0, 1, 2, 3, 4, 5, 1, -1, 2}});
  const std::vector<int32_t> tokens = {8, 0, 1, 5, 7, 4, 6, 99, 3, -5, 2};  // 7, 99, -5: dead
  const std::vector<Numbers> expected = {{1, 8, 20, 26},  {0, 6, 16, 30}, {1, 7, 12, 24},
                                         {0, 10, 12, 23}, {0, 6, 15, 33}, {0, 6, 15, 33},
                                         {1, 9, 22, 32},  {0, 6, 15, 33}, {4, 8, 19, 29},
                                         {0, 6, 15, 33},  {1, 8, 20, 26}};
  for (size_t p = 0; p < tokens.size(); ++p)
    EXPECT_EQ(rows(hash, tokens, static_cast<int64_t>(p), 0), expected[p]) << p;
  EXPECT_EQ(rows(hash, tokens, 3, 1), (Numbers{10, 18, 51, 87}));
  EXPECT_EQ(rows(hash, tokens, 8, 1), (Numbers{2, 25, 51, 69}));
  // What stands behind the position does not count.
  EXPECT_EQ(rows(hash, {8, 0, 1, 5}, 3, 0), expected[3]);
}

TEST(EngramHash, RefusesNumbersOutOfRange) {
  const auto refused = [](auto&& change) {
    EngramHash::Config config = published({1, 14});
    change(config);
    return !EngramHash::make(std::move(config)).has_value();
  };
  EXPECT_FALSE(refused([](auto&) {}));
  EXPECT_FALSE(refused([](auto& c) { c.layer_ids.clear(); }));
  EXPECT_TRUE(refused([](auto& c) { c.layer_ids = {1, 14, 1}; }));
  EXPECT_TRUE(refused([](auto& c) { c.layer_ids = {-1}; }));
  EXPECT_TRUE(refused([](auto& c) { c.layer_ids = {int64_t{1} << 31}; }));
  EXPECT_TRUE(refused([](auto& c) { c.vocab_size = 0; }));
  EXPECT_TRUE(refused([](auto& c) { c.vocab_size = (int64_t{1} << 31) + 1; }));
  EXPECT_TRUE(refused([](auto& c) { c.max_ngram_size = 1; }));
  EXPECT_TRUE(refused([](auto& c) { c.max_ngram_size = 17; }));
  EXPECT_TRUE(refused([](auto& c) { c.n_heads = 0; }));
  EXPECT_TRUE(refused([](auto& c) { c.n_heads = 1025; }));
  EXPECT_TRUE(refused([](auto& c) { c.compressed_vocab_size = 0; }));
  EXPECT_TRUE(refused([](auto& c) { c.pad_id = -1; }));
  EXPECT_TRUE(refused([](auto& c) { c.pad_id = c.compressed_vocab_size; }));
  EXPECT_TRUE(refused([](auto& c) { c.token_map = {0, -2}; }));
  EXPECT_TRUE(refused([](auto& c) { c.token_map = {0, 99092}; }));
  EXPECT_TRUE(refused([](auto& c) {
    c.n_heads = 1024;
    c.max_ngram_size = 16;
    c.layer_ids.resize(100);
    std::iota(c.layer_ids.begin(), c.layer_ids.end(), 0);
  }));
}

}  // namespace
}  // namespace hadal
