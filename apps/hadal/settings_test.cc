// Settings from flags, environment and file: which of them counts, and what is refused.
#include "settings.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace hadal::app {
namespace {

class Settings : public testing::Test {
 protected:
  Settings() {
    command_.add_option("--port", port_)->check(CLI::Range(1, 65535));
    command_.add_option("--name", name_);
    command_.add_option("--alias", aliases_)->allow_extra_args(false);
    command_.add_flag("--any-model", any_);
    command_.add_option("--api-key", key_);
  }
  ~Settings() override {
    for (const char* name : {"HADAL_PORT", "HADAL_ALIAS"}) ::unsetenv(name);
    std::filesystem::remove(file_);
  }
  Result<std::vector<SettingOrigin>> apply(std::vector<std::string> arguments,
                                           const std::string& file = {}) {
    if (!file.empty()) std::ofstream(file_) << file;
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    command_.parse(reversed);
    const std::string secrets[] = {"api-key"};
    return apply_settings(command_, arguments, file.empty() ? "" : file_, secrets);
  }
  static std::string origin_of(const std::vector<SettingOrigin>& origins, const std::string& name) {
    for (const SettingOrigin& origin : origins)
      if (origin.name == name) return origin.value + " from " + origin.from;
    return "none";
  }

  CLI::App command_;
  int port_ = 8080;
  std::string name_, key_;
  std::vector<std::string> aliases_;
  bool any_ = false;
  const std::string file_ = testing::TempDir() + "settings_test.toml";
};

TEST_F(Settings, AFlagBeatsTheEnvironmentWhichBeatsTheFile) {
  ::setenv("HADAL_PORT", "2", 1);
  const auto origins = apply({"--name", "flag"},
                             "port = 3\nname = \"file\"\nany-model = true\napi-key = \"secret\"\n");
  ASSERT_TRUE(origins) << origins.error().message;
  EXPECT_EQ(name_, "flag");
  EXPECT_EQ(port_, 2);
  EXPECT_TRUE(any_);
  EXPECT_EQ(key_, "secret");
  EXPECT_EQ(origin_of(*origins, "name"), "flag from flag");
  EXPECT_EQ(origin_of(*origins, "port"), "2 from HADAL_PORT");
  EXPECT_EQ(origin_of(*origins, "api-key"), "(hidden) from " + file_);
  EXPECT_EQ(origin_of(*origins, "alias"), "none");
}

TEST_F(Settings, ListsComeFromEachPlace) {
  ::setenv("HADAL_ALIAS", "a,b", 1);
  ASSERT_TRUE(apply({}));
  EXPECT_EQ(aliases_, (std::vector<std::string>{"a", "b"}));
  ASSERT_TRUE(apply({"--alias", "c", "--alias", "d"}, "alias = [\"x\"]\n"));
  EXPECT_EQ(aliases_, (std::vector<std::string>{"c", "d"}));
}

TEST_F(Settings, WhatIsNoSettingIsRefusedByName) {
  const auto error = [&](const std::string& file) {
    const auto origins = apply({}, file);
    return origins ? std::string("accepted") : origins.error().message;
  };
  EXPECT_NE(error("prot = 1\n").find("prot: is no setting"), std::string::npos);
  EXPECT_NE(error("port = 70000\n").find("port: "), std::string::npos);
  EXPECT_NE(error("[server]\nport = 1\n").find("[server]"), std::string::npos);
  EXPECT_NE(error("name = \"open\n").find("a quote is not closed"), std::string::npos);
}

}  // namespace
}  // namespace hadal::app
