// A batch in C++: every line of standard input is a question; the answers are computed together and
// written in the order of the questions.
//
//   batch MODEL [CHAT_FORMAT] < questions
#include <hadal/hadal.hpp>
#include <iostream>
#include <string>
#include <vector>

int main(int argc, char** argv) try {
  if (argc < 2) return 2;
  namespace lib = hadal::lib;
  auto options = lib::make<hadal_model_options>();
  options.max_sequences = 16;
  options.step_seconds = -1;  // nobody waits for single tokens
  if (argc > 2) options.chat_format = argv[2];
  lib::Model model(argv[1], options);

  auto wishes = lib::make<hadal_answer_options>();
  wishes.max_new_tokens = 32;
  std::vector<lib::Answer> answers;
  for (std::string line; std::getline(std::cin, line);) {
    const std::vector<lib::Message> messages{{.role = "user", .content = line}};
    answers.push_back(model.chat(messages, wishes));
  }
  for (lib::Answer& answer : answers) {
    answer.wait();
    std::cout << answer.result().text << '\n';
  }
  const hadal_counts counts = model.counts();
  std::cerr << counts.new_tokens << " tokens in " << counts.steps << " steps\n";
  return 0;
} catch (const hadal::lib::Failure& failure) {
  std::cerr << failure.what() << '\n';
  return 1;
}
