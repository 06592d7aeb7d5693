// hadal completion: a script for bash, zsh or fish, made from the very options that the program
// parses.
#include "command.h"

namespace hadal::app {
namespace {

/// "--a --b" of a command.
std::string option_words(const CLI::App& command) {
  std::string words;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames())
      words += (words.empty() ? "--" : " --") + name;
  }
  return words;
}

std::string command_words(const CLI::App& app) {
  std::string words;
  for (const CLI::App* command : app.get_subcommands({}))
    words += (words.empty() ? "" : " ") + command->get_name();
  return words;
}

std::string bash(const CLI::App& app) {
  std::string cases;
  for (const CLI::App* command : app.get_subcommands({}))
    cases += "    " + command->get_name() + ") words=\"" + option_words(*command) + "\" ;;\n";
  return "_hadal() {\n  local words current=\"${COMP_WORDS[COMP_CWORD]}\"\n  if [ \"$COMP_CWORD\" "
         "-eq 1 ]; then\n    COMPREPLY=($(compgen -W \"" +
         command_words(app) +
         "\" -- \"$current\"))\n    return\n  fi\n  case \"${COMP_WORDS[1]}\" in\n" + cases +
         "  esac\n  if [[ \"$current\" == -* ]]; then\n    COMPREPLY=($(compgen -W \"$words\" -- "
         "\"$current\"))\n  else\n    COMPREPLY=($(compgen -f -- "
         "\"$current\"))\n  fi\n}\ncomplete -o filenames -F _hadal hadal\n";
}

std::string fish(const CLI::App& app) {
  std::string text;
  for (const CLI::App* command : app.get_subcommands({})) {
    text += "complete -c hadal -n __fish_use_subcommand -a " + command->get_name() + "\n";
    for (const CLI::Option* option : command->get_options())
      for (const std::string& name : option->get_lnames())
        text += "complete -c hadal -n '__fish_seen_subcommand_from " + command->get_name() +
                "' -l " + name + "\n";
  }
  return text;
}

}  // namespace

void add_completion(CLI::App& app, Run& chosen) {
  auto shell = std::make_shared<std::string>();
  CLI::App* c = app.add_subcommand("completion",
                                   "print a completion script: source <(hadal completion bash)");
  c->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  c->callback([shell, &app, &chosen] {
    chosen = [shell, &app](Output& out) -> Status {
      // zsh runs the bash function through its own bridge.
      const std::string text =
          *shell == "fish"
              ? fish(app)
              : (*shell == "zsh" ? "autoload -U +X bashcompinit && bashcompinit\n" : "") +
                    bash(app);
      out.write(text);
      return {};
    };
  });
}

}  // namespace hadal::app
