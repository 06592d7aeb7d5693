#include "text/chat/json_reader.h"

#include <algorithm>
#include <cctype>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "checkpoint/printable.h"

namespace hadal::chat {
std::string json_step(const std::string& key) {
  const bool plain =
      !key.empty() && key.size() <= 80 && std::all_of(key.begin(), key.end(), [](unsigned char c) {
        return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '$';
      });
  return plain ? "." + key : "[" + quote(key, 40) + "]";
}

namespace {

/// Receives the parser's events and builds the value; the first fault ends it.
class Builder final : public nlohmann::json_sax<OrderedJson> {
 public:
  Builder(std::string_view what, JsonKeys keys, JsonBody body)
      : what_(what), keys_(keys), outside_(body == JsonBody::kMember ? 1 : 0) {}

  [[nodiscard]] const std::string& fault() const { return fault_; }
  OrderedJson take() { return std::move(root_); }

  bool null() override { return add(nullptr) != nullptr; }
  bool boolean(bool value) override { return add(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return add(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return add(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override {
    return add(value) != nullptr;
  }
  bool string(string_t& value) override { return add(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return fail("binary data"); }
  bool start_object(std::size_t) override { return open(OrderedJson::object()); }
  bool start_array(std::size_t) override { return open(OrderedJson::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    Level& level = levels_.back();
    auto& fields = level.value->get_ref<OrderedJson::object_t&>();
    const auto [known, added] = level.places.try_emplace(name, fields.size());
    level.key = std::move(name);
    if (!added && keys_ == JsonKeys::kUnique) return fail("the key occurs twice");
    if (added && static_cast<int64_t>(fields.size()) >= limit("fields").most)
      return fail("an object has more than " + std::to_string(limit("fields").most) + " keys");
    level.place = known->second;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& e) override {
    const std::string what = "no valid JSON: " + printable(e.what(), 200);
    if (what_ == "request") return fail(what);
    fault_ = what_ + ": " + what;  // a text within a text: the parser's own place says more
    return false;
  }

 private:
  struct Level {
    OrderedJson* value = nullptr;  ///< stays where it is: its holder gains nothing while it is open
    std::string key = {};          ///< the last one of an object
    size_t place = 0;              ///< among the object's fields, where the key's value goes
    std::unordered_map<std::string, size_t> places = {};  ///< of the object's keys
    bool ids = false;  ///< a list inside of the root's "prompt", or that itself
  };

  bool fail(const std::string& what) {
    std::string path = what_ == "request" ? "" : what_;
    for (const Level& level : levels_) {
      if (level.value->is_array()) {
        // An entry that is open has been counted.
        const size_t at = level.value->size() - (&level != &levels_.back() ? 1 : 0);
        path += "[" + std::to_string(at) + "]";
      } else if (!level.places.empty()) {
        const std::string step = json_step(level.key);
        path += path.empty() && step[0] == '.' ? step.substr(1) : step;
      }
    }
    if (path.size() > 200) path = path.substr(0, 200) + "…";
    fault_ = (path.empty() ? what_ : path) + ": " + what;
    return false;
  }

  /// Where the value stands now; null where a limit is passed.
  OrderedJson* add(OrderedJson value) {
    if (levels_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Level& level = levels_.back();
    if (level.ids) {
      if (++ids_ > limit("prompt[]").most)
        return fail("the request has more than " + std::to_string(limit("prompt[]").most) + " ids"),
               nullptr;
    } else if (++values_ > limit("values").most) {
      return fail("the request has more than " + std::to_string(limit("values").most) + " values"),
             nullptr;
    }
    if (level.value->is_array()) {
      auto& list = level.value->get_ref<OrderedJson::array_t&>();
      list.push_back(std::move(value));
      return &list.back();
    }
    auto& fields = level.value->get_ref<OrderedJson::object_t&>();
    if (level.place < fields.size()) {
      OrderedJson& held = (fields.begin() + static_cast<std::ptrdiff_t>(level.place))->second;
      return &(held = std::move(value));
    }
    return &fields.emplace_back(level.key, std::move(value)).second;
  }

  bool open(OrderedJson empty) {
    const bool list = empty.is_array();
    if (static_cast<int64_t>(levels_.size() - std::min(outside_, levels_.size())) >=
        limit("depth").most)
      return fail("JSON nested deeper than " + std::to_string(limit("depth").most) + " levels");
    const bool ids = list && (in_body() ? levels_.back().key == "prompt"
                                        : !levels_.empty() && levels_.back().ids);
    OrderedJson* value = add(std::move(empty));
    if (value) levels_.push_back({.value = value, .ids = ids});
    return value != nullptr;
  }

  /// Whether the level that is open is the body itself.
  [[nodiscard]] bool in_body() const {
    return levels_.size() == outside_ + 1 && (outside_ == 0 || levels_[0].key == "body") &&
           levels_.back().value->is_object();
  }

  bool close() {
    levels_.pop_back();
    return true;
  }

  std::string what_;
  JsonKeys keys_;
  size_t outside_;  ///< levels around the body
  OrderedJson root_;
  std::vector<Level> levels_;
  int64_t values_ = 0, ids_ = 0;
  std::string fault_;
};

}  // namespace

Result<OrderedJson> read_json(std::string_view text, std::string_view what, JsonKeys keys,
                              JsonBody body) {
  Builder builder(what, keys, body);
  if (!OrderedJson::sax_parse(text, &builder)) return usage_error(builder.fault());
  return builder.take();
}

}  // namespace hadal::chat
