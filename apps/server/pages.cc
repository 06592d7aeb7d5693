#include "server/pages.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "hadal/version.h"
#include "server/openapi.h"
#include "server/reply.h"
#include "server/routes.h"

namespace hadal::server {
namespace {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  return out;
}

std::string page(std::string_view title, const std::string& body) {
  return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
         "content=\"width=device-width\"><title>" +
         escaped(title) +
         "</title><style>\nbody{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem "
         "auto;padding:0 1rem;color:#1a1a1a;background:#fff}\n"
         "pre,code{font:14px/1.5 ui-monospace,monospace;background:#f3f3f3}\n"
         "pre{padding:.8rem;overflow-x:auto}table{border-collapse:collapse;width:100%}\n"
         "td,th{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;border-bottom:1px "
         "solid #ddd}\n"
         "@media(prefers-color-scheme:dark){body{color:#e8e8e8;background:#161616}"
         "pre,code{background:#262626}td,th{border-color:#444}a{color:#8ab4ff}}\n"
         "</style></head><body>\n" +
         body + "</body></html>\n";
}

/// Only what a host's name and port may hold: the page shows it in a shell's line.
std::string plain_host(std::string_view host) {
  const bool plain = std::all_of(host.begin(), host.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view(".-_:[]").find(static_cast<char>(c)) != std::string_view::npos;
  });
  return plain && !host.empty() ? std::string(host) : "localhost";
}

/// A shell's word that is this JSON.
std::string shell_word(const Json& json) {
  std::string out = "'";
  for (const char c : json_text(json)) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string list(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names)
    out += (out.empty() ? "" : ", ") + ("<code>" + escaped(name) + "</code>");
  return out;
}

}  // namespace

std::string front_page(const ModelCard& card, const PageView& view) {
  const std::string url = (view.tls ? "https://" : "http://") + plain_host(view.host);
  const std::string key = view.needs_key ? " \\\n  -H 'Authorization: Bearer YOUR-KEY'" : "";
  const Json question = {
      {"model", card.name},
      {"messages",
       Json::array({{{"role", "user"}, {"content", "Why is it dark at the bottom of the sea?"}}})}};
  std::string body = "<h1>Hadal " HADAL_VERSION
                     "</h1>\n<p>This server answers with the model <code>" +
                     escaped(card.name) + "</code>, up to " + std::to_string(card.served_context) +
                     " tokens of prompt and answer together.</p>\n";
  if (!card.aliases.empty()) body += "<p>It also goes by " + list(card.aliases) + ".</p>\n";
  if (!card.adapters.empty())
    body += "<p>Adapters, by their names: " + list(card.adapters) + ".</p>\n";
  if (view.needs_key) body += "<p>Requests need a key.</p>\n";
  body +=
      "<h2>A first question</h2>\n<pre>curl " + url + "/v1/chat/completions" + key +
      " \\\n  -H 'Content-Type: application/json' \\\n  -d " + escaped(shell_word(question)) +
      "</pre>\n"
      "<h2>Clients</h2>\n<table><tr><th>Client</th><th>Base URL</th></tr>\n"
      "<tr><td>OpenAI</td><td><code>" +
      url +
      "/v1</code></td></tr>\n"
      "<tr><td>DeepSeek</td><td><code>" +
      url + "</code>, <code>" + url +
      "/beta</code></td></tr>\n"
      "<tr><td>Anthropic</td><td><code>" +
      url + "</code> or <code>" + url +
      "/anthropic</code></td></tr>\n"
      "<tr><td>Ollama</td><td><code>" +
      url +
      "</code></td></tr></table>\n"
      "<p><a href=\"/docs\">All paths and fields</a>, as <a href=\"/openapi.json\">OpenAPI</a>; "
      "<a href=\"/v1/models\">models</a>, <a href=\"/metrics\">metrics</a>, <a "
      "href=\"/health\">health</a>.</p>\n";
  return page("Hadal: " + card.name, body);
}

namespace {

std::string anchor(std::string_view kind, std::string_view name) {
  return std::string(kind) + "-" + escaped(name);
}

std::string fields_table(const FieldGroup& group) {
  std::string out = "<table><tr><th>Field</th><th>Type</th><th>Meaning</th></tr>\n";
  for (const ApiField& field : group.fields) {
    const auto standard = field_default(field);
    std::string type(field.type);
    for (size_t bar = type.find('|'); bar != std::string::npos; bar = type.find('|'))
      type.replace(bar, 1, " or ");
    out += "<tr><td><code>" + escaped(field.name) + "</code>" +
           (field.required ? " (needed)" : "") + "</td><td>" + escaped(type) + field_range(field) +
           (standard ? "; left out: " + detail::plain(*standard) : "") + "</td><td>" +
           escaped(field.text) + "</td></tr>\n";
  }
  return out + "</table>\n";
}

/// Links to the groups of a body's fields.
std::string body_links(const ApiOperation& operation) {
  std::string out;
  for (const auto& [group, under] : operation.groups()) {
    out += (out.empty() ? "<p>Fields: " : "; ") + ("<a href=\"#" + anchor("fields", group->name));
    out += "\">" + escaped(group->title) + "</a>";
    if (!under.empty()) out += ", under <code>" + escaped(under) + "</code>";
  }
  return out.empty() ? out : out + ".</p>\n";
}

std::string operation_text(const ApiOperation& operation) {
  std::string out = "<h2 id=\"" + anchor("call", operation.name) + "\">" +
                    escaped(operation.title) + "</h2>\n<p>";
  for (const Route& route : routes())
    if (route.endpoint == operation.endpoint)
      out += "<code>" + std::string(route.method) + " " + escaped(route.path) + "</code>" +
             (route.open ? " (needs no key)" : "") + "<br>\n";
  out += "</p>\n<p>" + escaped(operation.text) + "</p>\n";
  if (!operation.stream.empty())
    out += "<p>A stream is <code>" + escaped(operation.stream) + "</code>.</p>\n";
  return out + body_links(operation);
}

}  // namespace

std::string docs_page() {
  std::string contents, calls, fields;
  std::set<const FieldGroup*> told;
  for (const ApiOperation& operation : api_operations()) {
    contents += "<li><a href=\"#" + anchor("call", operation.name) + "\">" +
                escaped(operation.title) + "</a></li>\n";
    calls += operation_text(operation);
    for (const GroupUse& use : operation.groups())
      if (told.insert(use.group).second)
        fields += "<h2 id=\"" + anchor("fields", use.group->name) +
                  "\">Fields: " + escaped(use.group->title) + "</h2>\n" + fields_table(*use.group);
  }
  return page("Hadal: API",
              "<h1>What this server answers</h1>\n"
              "<p>The same as <a href=\"/openapi.json\">OpenAPI</a>. A field's range is what is "
              "accepted; what lies beyond is refused with its name. A field that is null is the "
              "same as one left out. Where the server asks for a key, it stands in "
              "<code>Authorization: Bearer KEY</code> or in <code>x-api-key: KEY</code>.</p>\n"
              "<ul>\n" +
                  contents + "</ul>\n" + calls + fields);
}

}  // namespace hadal::server
