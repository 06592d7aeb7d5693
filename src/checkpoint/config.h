// Config: what a checkpoint says about its model, under the names of the official config.json,
// whatever the file format.
//
// A GGUF's metadata is translated to these names by checkpoint/names.cc; models read nothing else.
// Every getter says in its error which key, what was expected and what was found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hadal {

class Config {
 public:
  /// An empty object.
  Config();
  /// From the text of a config.json; `origin` names it in messages. Nesting deeper than 64 is
  /// refused.
  static Result<Config> parse(std::string_view json, std::string origin);

  [[nodiscard]] bool has(std::string_view key) const;       ///< present and not null
  [[nodiscard]] bool contains(std::string_view key) const;  ///< present, null too

  /// A whole number in [low, high]; an absent or null key is an error unless `otherwise` is given.
  Result<int64_t> integer(std::string_view key, int64_t low, int64_t high,
                          std::optional<int64_t> otherwise = {}) const;
  /// A finite number; whole numbers count.
  Result<double> real(std::string_view key, std::optional<double> otherwise = {}) const;
  Result<bool> boolean(std::string_view key, std::optional<bool> otherwise = {}) const;
  Result<std::string> text(std::string_view key, std::optional<std::string> otherwise = {}) const;
  /// A list of whole numbers; a single number counts as a list of one. Absent: empty.
  Result<std::vector<int64_t>> integers(std::string_view key) const;
  Result<std::vector<double>> reals(std::string_view key) const;
  Result<std::vector<std::string>> texts(std::string_view key) const;
  /// A nested object; absent or null: an empty Config.
  Result<Config> object(std::string_view key) const;

  /// For building (gguf_config.cc, tests): sets a key to JSON given as text, e.g.
  /// set("rope_scaling", R"({"factor": 4})").
  void set(std::string_view key, std::string_view json_value);
  /// Sets a key to a string; bytes that are no UTF-8 become \xNN.
  void set_text(std::string_view key, std::string_view text);

  /// Sets `as` to what `from` has under `key`, whatever it is, null too; nothing where it has
  /// no such key.
  void copy(const Config& from, std::string_view key, std::string_view as);

  /// The keys of the top level, in file order.
  [[nodiscard]] std::vector<std::string> keys() const;
  /// The value of a key as one printable line of about `limit` bytes at most; "" if there is no
  /// such key.
  [[nodiscard]] std::string value_text(std::string_view key, size_t limit = 200) const;

  /// True of a GGUF's: a key that is not there has no value. In a config.json it has the one that
  /// the model's published configuration class takes (models/spec.h: with_defaults).
  [[nodiscard]] bool says_all() const { return says_all_; }
  void set_says_all() { says_all_ = true; }

  /// A copy that notes which keys it and its copies are asked for; not for several threads at once.
  [[nodiscard]] Config watched() const;
  /// Of a watched one: the keys whose values nobody asked for, but for those that are null.
  [[nodiscard]] std::vector<std::string> unasked() const;

  [[nodiscard]] const std::string& origin() const { return origin_; }
  /// The whole as indented JSON.
  [[nodiscard]] std::string dump() const;

 private:
  struct Tree;
  void put(std::string_view key, Tree value);
  std::shared_ptr<Tree> tree_;  // shared with nested configs
  std::string origin_;
  bool says_all_ = false;
};

}  // namespace hadal
