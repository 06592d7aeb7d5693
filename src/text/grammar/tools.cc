#include "text/grammar/tools.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "checkpoint/json_scan.h"
#include "checkpoint/printable.h"
#include "text/chat/chat.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/limits.h"
#include "text/grammar/member_list.h"

namespace hadal {
namespace {

/// How a format writes its calls.
struct Form {
  std::string_view parser;
  bool dsml = false;
  std::string_view list_begin, list_end;
  std::string_view call_begin, behind_name, call_end, between;
  std::string_view parameter = {};  ///< of DSML: the element's name
};

constexpr auto kForms = std::to_array<Form>({
    {"deepseek-tools", false, "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
     "<｜tool▁call▁begin｜>function<｜tool▁sep｜>", "\n```json\n", "\n```<｜tool▁call▁end｜>",
     "\n"},
    {"think-deepseek-tools", false, "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
     "<｜tool▁call▁begin｜>function<｜tool▁sep｜>", "\n```json\n", "\n```<｜tool▁call▁end｜>",
     "\n"},
    {"think-deepseek-v3.1-tools", false, "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
     "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", ""},
    {"think-dsml-function-calls", true, "<｜DSML｜function_calls>\n", "</｜DSML｜function_calls>",
     "<｜DSML｜invoke name=\"", "\">\n", "</｜DSML｜invoke>\n", "", "｜DSML｜parameter"},
    {"think-dsml-tool-calls", true, "<｜DSML｜tool_calls>\n", "</｜DSML｜tool_calls>",
     "<｜DSML｜invoke name=\"", "\">\n", "</｜DSML｜invoke>\n", "", "｜DSML｜parameter"},
    {"think-dsml-calls", true, "<｜DSML｜ calls>\n", "</｜DSML｜ calls>",
     "<｜DSML｜ invoke name=\"", "\">\n", "</｜DSML｜ invoke>\n", "", "｜DSML｜ parameter"},
});

/// Tokens of their own in the vocabularies of the two kinds of form.
const std::vector<std::string> kCallTokens = {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
                                              "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>",
                                              "<｜tool▁sep｜>"};
const std::vector<std::string> kDsmlTokens = {"｜DSML｜"};
/// What no text of an answer or a value may hold in the two.
const std::vector<std::string> kDsmlTags = {"<｜DSML｜", "</｜DSML｜"};

Result<const Form*> form_of(const std::string& format) {
  const ChatFormat* chat = find_chat_format(format);
  for (const Form& form : kForms)
    if (form.parser == (chat ? chat->output_parser : std::string_view(format))) return &form;
  return usage_error("tools: answers in the format " + quote(format) +
                     " have no form for calls that a grammar is known for");
}

bool is_name(const std::string& name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.' || c == ':';
  };
  return !name.empty() && name.size() <= 128 && std::all_of(name.begin(), name.end(), fits);
}

class Writer {
 public:
  explicit Writer(const Form& form) : form_(form) {}

  Result<std::string> write(const SchemaJson& tools, const std::string& choice) {
    std::string calls;
    for (size_t i = 0; i < tools.size(); ++i) {
      const std::string where = fmt::format("tools[{}]", i);
      const SchemaJson& tool = tools[i];
      const SchemaJson& function =
          tool.is_object() && tool.contains("function") ? tool["function"] : tool;
      if (!function.is_object() || !function.contains("name") || !function["name"].is_string())
        return usage_error("tools: " + where + " has no function with a name");
      const auto name = function["name"].get<std::string>();
      if (!is_name(name))
        return usage_error("tools: " + where + ": the name " + quote(name) +
                           " must be 1 to 128 letters, digits, _ - . or :");
      if (choice != "auto" && choice != "required" && choice != name) continue;
      Result<std::string> call = one_call(name, function);
      if (!call) return usage_error("tools: " + where + ": " + call.error().message);
      calls += (calls.empty() ? "" : " | ") + *call;
    }
    if (calls.empty())
      return usage_error("tools: tool_choice names " + quote(choice) + ", which is no tool");
    out_.rule("call", calls);
    const bool single = choice != "auto" && choice != "required";
    const std::string more =
        single ? "" : fmt::format(" ({} call)*", EbnfWriter::literal(form_.between));
    out_.rule("section", fmt::format("{} call{} {}", EbnfWriter::literal(form_.list_begin), more,
                                     EbnfWriter::literal(form_.list_end)));
    if (choice == "auto") {
      HADAL_TRY(const Automaton text, Automaton::without(form_.dsml ? kDsmlTags : kCallTokens));
      const std::string rule = out_.automaton(text, Spelling::kPlain, "text");
      out_.rule("root", rule + " section?");
    } else {
      out_.rule("root", form_.dsml ? "\"\\n\"{0,2} section" : "section");
    }
    SchemaWriter::write_basics(out_);
    if (out_.too_large()) return usage_error("tools: they make too large a grammar");
    return out_.text();
  }

 private:
  Result<std::string> one_call(const std::string& name, const SchemaJson& function) {
    const auto flag = function.find("strict");
    const bool strict = flag != function.end() && *flag == true;
    SchemaJson parameters = SchemaJson::object();
    if (function.contains("parameters")) parameters = function["parameters"];
    if (!parameters.is_object()) return usage_error("its `parameters` are no object");
    HADAL_TRY(const std::string arguments,
              form_.dsml ? elements(parameters, strict) : json(parameters, strict));
    const std::string rule = out_.name("call");
    out_.rule(rule, fmt::format("{} {} {}",
                                EbnfWriter::literal(fmt::format("{}{}{}", form_.call_begin, name,
                                                                form_.behind_name)),
                                arguments, EbnfWriter::literal(form_.call_end)));
    return rule;
  }

  Result<std::string> json(const SchemaJson& parameters, bool strict) {
    if (!strict) return std::string("json-object");
    SchemaTree tree(parameters);
    SchemaWriter writer(tree, out_);
    const SchemaJson object = {{"type", "object"}};
    HADAL_TRY(const std::string rule,
              writer.values(SchemaTree::with({{.schema = &tree.root()}}, &object)));
    if (rule.empty()) return usage_error("no object satisfies its `parameters`");
    return rule;
  }

  /// The elements of a DSML call.
  Result<std::string> elements(const SchemaJson& parameters, bool strict) {
    SchemaTree tree(parameters);
    SchemaWriter writer(tree, out_);
    SchemaShape shape;
    if (strict) {
      HADAL_TRY(shape, tree.shape({{.schema = &tree.root()}}));
    }
    if (shape.open_choice >= 0 || (shape.types & kObjectType) == 0 || shape.values)
      return usage_error(
          "its `parameters` must be a schema of an object, without anyOf, oneOf, enum "
          "or const at the top");
    MemberList list{.min = strict ? shape.min_properties : 0,
                    .max = strict ? shape.max_properties : -1};
    const SchemaJson none = SchemaJson::object();
    const SchemaJson& properties =
        parameters.contains("properties") && parameters["properties"].is_object()
            ? parameters["properties"]
            : none;
    for (const std::string& name : shape.required)
      if (!properties.contains(name))
        return usage_error("`required` names " + quote(name) + ", which is no property");
    for (const auto& entry : properties.items()) {
      const std::string& name = entry.key();
      if (name.empty() || name.find_first_of("\"<>\n") != name.npos)
        return usage_error("the property " + quote(name) + " cannot be written in DSML");
      const bool required =
          std::find(shape.required.begin(), shape.required.end(), name) != shape.required.end();
      SchemaSet value;
      if (strict) {
        HADAL_TRY(value, tree.property(shape, name));
      }
      HADAL_TRY(const std::string body, element(tree, writer, name, value, strict));
      if (body.empty() && required && strict)
        return usage_error("nothing satisfies the property " + quote(name));
      if (!body.empty()) list.members.push_back({body, required && strict});
    }
    HADAL_TRY(const MemberRules rules, write_members(out_, list));
    if (rules.filled.empty()) return std::string(rules.may_be_empty ? "\"\\n\"?" : "");
    return rules.may_be_empty ? fmt::format("(\"\\n\" | {})?", rules.filled) : rules.filled;
  }

  Result<std::string> element(SchemaTree& tree, SchemaWriter& writer, const std::string& name,
                              const SchemaSet& value, bool strict) {
    const auto begin = [&](bool text) {
      return EbnfWriter::literal(
          fmt::format("<{} name=\"{}\" string=\"{}\">", form_.parameter, name, text));
    };
    const std::string end = EbnfWriter::literal(fmt::format("</{}>\n", form_.parameter));
    std::string text, json = "json-value";
    HADAL_TRY(const Automaton free, Automaton::without(kDsmlTags));
    if (!strict) {
      text = out_.automaton(free, Spelling::kPlain, "text");
    } else {
      HADAL_TRY(text, raw_text(tree, value, free));
      HADAL_TRY(json, writer.values(SchemaTree::with(value, &no_string_)));
    }
    std::vector<std::string> forms;
    if (!text.empty()) forms.push_back(begin(true) + " " + text + " " + end);
    if (!json.empty()) forms.push_back(begin(false) + " " + json + " " + end);
    if (forms.empty()) return std::string();
    const std::string rule = out_.name("p");
    out_.rule(rule, forms.size() == 1 ? forms[0] : forms[0] + " | " + forms[1]);
    return rule;
  }

  /// The texts of a value that is a string; "" if none may be.
  Result<std::string> raw_text(SchemaTree& tree, const SchemaSet& value, const Automaton& free) {
    HADAL_TRY(const SchemaShape shape, tree.shape(value));
    if ((shape.types & kStringType) == 0) return std::string();
    if (shape.open_choice >= 0) return choice_text(tree, shape, free);
    Automaton texts = free;
    if (shape.values) {
      std::vector<std::string> words;
      for (const SchemaJson* one : *shape.values) {
        HADAL_TRY(const bool holds, tree.admits(value, *one));
        if (holds && one->is_string()) words.push_back(one->get<std::string>());
      }
      HADAL_TRY(texts, Automaton::words(words).both(free));
    } else if (!shape.patterns.empty() || shape.min_length > 0 || shape.max_length >= 0) {
      Result<Automaton> own = tree.strings(shape);
      if (!own) return usage_error("schema: a string's constraints: " + own.error().message);
      HADAL_TRY(texts, own->both(free));
    }
    return texts.empty() ? std::string() : out_.automaton(texts, Spelling::kPlain, "text");
  }

  Result<std::string> choice_text(SchemaTree& tree, const SchemaShape& shape,
                                  const Automaton& free) {
    const auto index = static_cast<size_t>(shape.open_choice);
    SchemaSet rest = shape.members;
    const SchemaJson& schema = *rest[index].schema;
    const bool any = schema.contains("anyOf") && !rest[index].any_chosen;
    (any ? rest[index].any_chosen : rest[index].one_chosen) = true;
    std::sort(rest.begin(), rest.end());
    std::string body;
    for (const SchemaJson& option : schema[any ? "anyOf" : "oneOf"]) {
      HADAL_TRY(const std::string one, raw_text(tree, SchemaTree::with(rest, &option), free));
      if (!one.empty()) body += (body.empty() ? "" : " | ") + one;
    }
    if (body.empty()) return std::string();
    const std::string rule = out_.name("texts");
    out_.rule(rule, body);
    return rule;
  }

  const Form& form_;
  EbnfWriter out_;
  /// What string="false" may hold.
  const SchemaJson no_string_ = {{"type", {"null", "boolean", "number", "array", "object"}}};
};

}  // namespace

Result<ToolsGrammar> tools_grammar(const GrammarSource& source) {
  HADAL_TRY(const Form* form, form_of(source.format));
  const JsonLimits limits{.depth = grammar_limits::kNesting,
                          .string_bytes = grammar_limits::kSourceBytes,
                          .keys = grammar_limits::kSchemaKeys};
  if (auto scanned = scan_json(source.text, "tools", limits); !scanned)
    return usage_error(scanned.error().message);
  SchemaJson tools;
  try {
    tools = SchemaJson::parse(source.text);
  } catch (const SchemaJson::exception& e) {
    return usage_error("tools: no valid JSON: " + printable(e.what(), 200));
  }
  if (!tools.is_array() || tools.empty() || tools.size() > grammar_limits::kTools)
    return usage_error(
        fmt::format("tools: expected a list of 1 to {} tools", grammar_limits::kTools));
  Writer writer(*form);
  HADAL_TRY(std::string ebnf,
            writer.write(tools, source.tool_choice.empty() ? "auto" : source.tool_choice));
  return ToolsGrammar{std::move(ebnf), form->dsml ? kDsmlTokens : kCallTokens};
}

}  // namespace hadal
