// hadal conversations: those that `hadal run --save` left.
#include "conversations.h"

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>

#include "checkpoint/printable.h"
#include "command.h"
#include "session/conversation.h"

namespace hadal::app {
namespace {

// NOLINTBEGIN(concurrency-mt-unsafe): nothing here changes the environment
std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}
// NOLINTEND(concurrency-mt-unsafe)

std::string date_of(std::filesystem::file_time_type time) {
  const auto system = std::chrono::file_clock::to_sys(time);
  const std::time_t seconds = std::chrono::system_clock::to_time_t(
      std::chrono::time_point_cast<std::chrono::seconds>(system));
  std::tm local{};
  localtime_r(&seconds, &local);
  char text[32];
  const size_t size = std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &local);
  return {text, size};
}

Status run(bool json, Output& out) {
  const auto entries = list_conversations(conversation_folder());
  if (json) {
    nlohmann::ordered_json all = nlohmann::ordered_json::array();
    for (const ConversationEntry& e : entries)
      all.push_back({{"name", e.name},
                     {"model", e.model},
                     {"questions", e.questions},
                     {"changed", date_of(e.changed)},
                     {"first", e.first}});
    out.print("{}\n", all.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return {};
  }
  for (const ConversationEntry& e : entries)
    out.print("{:<20} {}  {:>3} {:<9}  {}\n", printable(e.name, 40), date_of(e.changed),
              e.questions, e.questions == 1 ? "question" : "questions", printable(e.first, 60));
  if (entries.empty())
    print_note("No conversation is saved in " + conversation_folder().string() +
               "; hadal run MODEL --save NAME saves one.");
  return {};
}

}  // namespace

std::filesystem::path conversation_folder() {
  const std::string data = environment("XDG_DATA_HOME"), home = environment("HOME");
  const std::filesystem::path base =
      !data.empty() ? std::filesystem::path(data)
                    : std::filesystem::path(home.empty() ? "." : home) / ".local" / "share";
  return base / "hadal" / "conversations";
}

std::filesystem::path conversation_path(const std::string& name) {
  if (name.find('/') != std::string::npos || name.ends_with(".json")) return name;
  return conversation_folder() / ((name.empty() ? "unnamed" : name) + ".json");
}

void add_conversations(CLI::App& app, Run& chosen) {
  auto json = std::make_shared<bool>(false);
  CLI::App* c = app.add_subcommand("conversations", "list those that hadal run --save left");
  c->add_flag("--json", *json, "a JSON list");
  c->callback([json, &chosen] { chosen = [json](Output& out) { return run(*json, out); }; });
}

}  // namespace hadal::app
