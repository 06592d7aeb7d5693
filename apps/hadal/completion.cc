// hadal completion: a script for bash, zsh or fish, made from the very options that the program
// parses.
#include <algorithm>
#include <map>

#include "command.h"

namespace hadal::app {
namespace {

/// The words that an option takes, as its check names them: "TEXT:{f32,bf16}" -> "f32 bf16".
std::string values(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{'), close = type.find('}');
  if (open == std::string::npos || close == std::string::npos) return {};
  std::string words = type.substr(open + 1, close - open - 1);
  std::replace(words.begin(), words.end(), ',', ' ');
  return words;
}

/// "--a --b" of a command.
std::string option_words(const CLI::App& command) {
  std::string words;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames())
      words += (words.empty() ? "--" : " --") + name;
  return words;
}

std::string command_words(const CLI::App& app) {
  std::string words;
  for (const CLI::App* command : app.get_subcommands({}))
    words += (words.empty() ? "" : " ") + command->get_name();
  return words;
}

/// What stands before a word from a fixed list: an option's name, a command for its argument.
std::map<std::string, std::string> words_after(const CLI::App& app) {
  std::map<std::string, std::string> after;
  for (const CLI::App* command : app.get_subcommands({}))
    for (const CLI::Option* option : command->get_options())
      if (const std::string words = values(*option); !words.empty())
        after[option->get_positional() ? command->get_name() : "--" + option->get_lnames().at(0)] =
            words;
  return after;
}

std::string bash(const CLI::App& app) {
  std::string options, fixed;
  for (const CLI::App* command : app.get_subcommands({}))
    options += "    " + command->get_name() + ") words=\"" + option_words(*command) + "\" ;;\n";
  for (const auto& [before, words] : words_after(app))
    fixed += "    " + before + ") words=\"" + words + "\" ;;\n";
  return R"(_hadal() {
  local words="" current="${COMP_WORDS[COMP_CWORD]}"
  case "${COMP_WORDS[COMP_CWORD-1]}" in
)" + fixed +
         R"(  esac
  if [[ "$COMP_CWORD" -eq 1 ]]; then
    words=")" +
         option_words(app) + " " + command_words(app) + R"("
  elif [[ -z "$words" && "$current" == -* ]]; then
    case "${COMP_WORDS[1]}" in
)" + options +
         R"(    esac
  fi
  if [[ -n "$words" ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  else
    local IFS=$'\n'  # file names with spaces
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}
complete -o filenames -F _hadal hadal
)";
}

/// The first line of a description, in single quotes.
std::string quoted(const std::string& description) {
  std::string text = "'";
  for (const char c : description.substr(0, description.find('\n')))
    text += c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return text + "'";
}

std::string fish(const CLI::App& app) {
  std::string text;
  for (const CLI::App* command : app.get_subcommands({})) {
    const std::string& name = command->get_name();
    text += "complete -c hadal -n __fish_use_subcommand -f -a " + name + " -d " +
            quoted(command->get_description()) + "\n";
    const std::string within = "complete -c hadal -n '__fish_seen_subcommand_from " + name + "'";
    for (const CLI::Option* option : command->get_options()) {
      const std::string words = values(*option);
      if (option->get_positional() && !words.empty()) text += within + " -f -a '" + words + "'\n";
      for (const std::string& long_name : option->get_lnames())
        text += within + " -l " + long_name + " -d " + quoted(option->get_description()) +
                (!words.empty()                 ? " -x -a '" + words + "'"
                 : option->get_items_expected() ? " -r"
                                                : "") +
                "\n";
    }
  }
  return text;
}

}  // namespace

void add_completion(CLI::App& app, Run& chosen) {
  auto shell = std::make_shared<std::string>();
  CLI::App* c = app.add_subcommand("completion", "print a shell's completion script");
  c->footer(
      "bash, zsh:  source <(hadal completion bash)\nfish:       hadal completion fish | source");
  c->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  c->callback([shell, &app, &chosen] {
    chosen = [shell, &app](Output& out) -> Status {
      // zsh runs the bash function through its own bridge.
      const std::string text =
          *shell == "fish"
              ? fish(app)
              : (*shell == "zsh" ? "autoload -U +X compinit bashcompinit\n"
                                   "(( $+functions[compdef] )) || compinit\nbashcompinit\n"
                                 : "") +
                    bash(app);
      out.write(text);
      return {};
    };
  });
}

}  // namespace hadal::app
