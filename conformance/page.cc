// The page that a vendor can publish: one file, no script, readable on a phone and on paper.
//
// Made of the JSON result alone. Every text in it comes from the chip or its user and is escaped.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "result.h"
#include "roofline.h"

namespace hadal::conformance {
namespace {

constexpr const char* kStyle = R"(
:root{--ink:#1c2127;--soft:#5b6672;--line:#d9dfe5;--paper:#fff;--band:#f4f6f8;--good:#12703c;--bad:#b3261e;--none:#8a5a00;--blue:#1f5fa8}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:60rem;padding:2rem 1.25rem 4rem;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .25rem;letter-spacing:-.01em}
h2{font-size:1.2rem;margin:2.5rem 0 .5rem;padding-bottom:.3rem;border-bottom:2px solid var(--ink)}
p{margin:.5rem 0;max-width:42rem}
.soft,caption{color:var(--soft)}
.sum{font-size:1.1rem;margin:1rem 0}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;margin:.75rem 0;font-size:.92rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-size:.85rem;padding:.2rem 0}
th,td{text-align:left;vertical-align:top;padding:.38rem .7rem .38rem 0;border-bottom:1px solid var(--line)}
th{font-weight:600;font-size:.82rem;color:var(--soft)}
td.n,th.n{text-align:right;white-space:nowrap}
tbody th{font-size:.92rem;color:var(--ink);white-space:nowrap}
.v{display:inline-block;padding:.05rem .55rem;border-radius:1rem;font-size:.82rem;font-weight:600;border:1px solid;white-space:nowrap}
.pass{color:var(--good)}.FAILED{color:var(--bad)}.not{color:var(--none)}
ul{padding-left:1.1rem;margin:.4rem 0}
li{margin:.3rem 0;overflow-wrap:anywhere}
code,.t{font:.86em/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem;margin:.75rem 0;font-size:.92rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.bar{display:inline-block;width:5rem;height:.55rem;background:var(--band);border:1px solid var(--line);vertical-align:middle;margin-right:.5rem}
.bar i{display:block;height:100%;background:var(--blue)}
svg{width:100%;height:auto;display:block;margin:1rem 0}
svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
@media (max-width:40rem){body{padding:1.25rem .9rem 3rem;font-size:15px}h1{font-size:1.5rem}
dl{grid-template-columns:1fr;gap:0}dd{margin:0 0 .5rem}.bar,.w{display:none}th,td{padding-right:.5rem}tbody th{white-space:normal}}
@media print{body{max-width:none;padding:0;font-size:10.5pt}h2{break-after:avoid}tr,svg,li{break-inside:avoid}
.wide{overflow:visible}.bar i,.v{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
@page{margin:18mm 16mm}
)";

std::string text_of(const Json& j, const char* key) { return j.value(key, std::string()); }
std::string shown(const Json& j, const char* key) { return escape(text_of(j, key)); }

std::string badge(const std::string& verdict) {
  const std::string kind = verdict == "pass" ? "pass" : verdict == "FAILED" ? "FAILED" : "not";
  return fmt::format("<span class=\"v {}\">{}</span>", kind, escape(verdict));
}

std::string list_of(const Json& texts) {
  std::string html;
  for (const Json& t : texts) html += "<li class=t>" + escape(t.get<std::string>()) + "</li>";
  return html.empty() ? "" : "<ul>" + html + "</ul>";
}

std::string joined(const Json& texts) {
  std::string html;
  for (const Json& t : texts) html += (html.empty() ? "" : ", ") + escape(t.get<std::string>());
  return html;
}

std::string header(const Json& r) {
  const Json& chip = r["chip"];
  const auto failed = r["failed"].get<int64_t>();
  return fmt::format("<h1>{}</h1>\n<p class=soft>{}</p>\n<p class=sum>{}. {}</p>\n",
                     shown(chip, "name"), shown(chip, "device"), escape(summary(r)),
                     failed == 0
                         ? "No check failed."
                         : fmt::format("<span class=FAILED>{} checks failed.</span>", failed));
}

std::string verdicts(const Json& r) {
  std::string rows;
  for (const Json& v : r["verdicts"]) {
    const std::string verdict = text_of(v, "verdict");
    const char* what = verdict == "not offered"  ? "Missing, in the chip's words:"
                       : verdict == "FAILED"     ? "Failed:"
                       : verdict == "not tested" ? "Not run:"
                                                 : "";
    const std::string needs = joined(v["needs"]);
    rows += fmt::format(
        "<tr><th scope=row>{}<div class=soft style=\"font-weight:400\">{}</div></th><td>{}</td>"
        "<td>{}{}</td></tr>\n",
        shown(v, "family"), shown(v, "title"), badge(verdict), what,
        verdict == "not tested" ? " " + joined(v["why"])
        : *what                 ? list_of(v["why"])
                : "<details><summary class=soft>operators</summary>" + needs + "</details>");
  }
  return "<h2>Models</h2>\n<p>A family passes when the chip offers every operator that it needs, "
         "computes each within the bound of the class of numerics that it answers, keeps the rules "
         "of queues and lifetimes, and runs a tiny model of the family whole. What a chip declines "
         "is not offered; it has not failed.</p>\n<div class=wide><table><thead><tr><th>Family<th>"
         "Verdict<th>Why</tr></thead><tbody>\n" +
         rows + "</tbody></table></div>\n";
}

std::string part_bar(double part) {
  return fmt::format("<span class=bar><i style=\"width:{:.0f}%\"></i></span>{:.3f}",
                     100 * std::clamp(part, 0.0, 1.0), part);
}

std::string accuracy(const Json& r) {
  std::string rows;
  for (const Json& c : r["checks"]) {
    if (text_of(c, "level") != "operators" || c["cases"].get<int64_t>() == 0) continue;
    const auto cases = c["cases"].get<int64_t>(), declined = c["declined"].get<int64_t>(),
               failed = c["failed"].get<int64_t>();
    std::string classes, parts;
    for (const auto& [name, worst] : c["classes"].items()) {
      classes += escape(name) + "<br>";
      const double part = worst.get<double>();
      parts += (part > 0 ? part_bar(part) : "equal bits") + "<br>";
    }
    const std::string state = failed != 0         ? badge("FAILED")
                              : declined == cases ? badge("not offered")
                                                  : badge("pass");
    rows += fmt::format(
        "<tr><th scope=row>{}</th><td>{}</td><td class=\"n w\">{}</td><td class=\"n "
        "w\">{}</td><td>{}</td>"
        "<td>{}</td></tr>\n",
        shown(c, "name"), state, cases, declined, classes, parts);
  }
  if (rows.empty()) return {};
  return "<h2>Accuracy</h2>\n<p>Each operator is compared, number by number, with a reference that "
         "computes in fp32. The bound of each number is derived from its inputs and from the class "
         "of numerics that the chip answers; 1 would be the whole of it.</p>\n<div class=wide>"
         "<table><thead><tr><th>Operator<th><th class=\"n w\">Cases<th class=\"n "
         "w\">Declined<th>Class<th>"
         "Largest error, as a part of its bound</tr></thead><tbody>\n" +
         rows + "</tbody></table></div>\n";
}

std::string models(const Json& r) {
  std::string rows;
  for (const auto& [name, m] : r["models"].items())
    rows += fmt::format(
        "<tr><th scope=row>{}</th><td class=n>{:.3g}</td><td class=n>{:.3g}</td><td class=n>{:.2f}"
        "</td><td class=n>{:.3g} %</td><td class=n>{} of {}</td><td class=n>{}</td></tr>\n",
        escape(name), m.value("kl", 0.0), m.value("class_kl", 0.0), m.value("part", 0.0),
        100.0 * static_cast<double>(m.value("beyond", int64_t{0})) /
            static_cast<double>(std::max<int64_t>(1, m.value("logits", int64_t{0}))),
        m.value("flips", int64_t{0}), m.value("positions", int64_t{0}),
        m.value("choices", int64_t{0}) == 0 ? "none"
                                            : fmt::format("{} of {}", m.value("differ", int64_t{0}),
                                                          m.value("choices", int64_t{0})));
  if (rows.empty()) return {};
  return "<h2>Whole models</h2>\n<p>Tiny models with random weights and, by name, real ones. The "
         "divergence of the next token's distribution from an exact reference may be twice that of "
         "the reference computing in the chip's own classes; no most likely token may be another "
         "one where the reference is surer than 6 &sigma; of what the classes move a logit by. Of "
         "tiny models that choose experts or entries, the reference takes the chip's choices, and "
         "each that is not its own must be within what the classes move scores by.</p>\n<div "
         "class=wide><table><thead><tr><th>Model<th class=n>Divergence<th class=n>of the "
         "classes<th class=n>Part of what is allowed<th class=n>Logits beyond 6 &sigma;<th "
         "class=n>Other tokens<th class=n>Other choices</tr></thead><tbody>\n" +
         rows + "</tbody></table></div>\n";
}

std::string speed(const Json& r) {
  const Json& operators = r["speed"]["operators"];
  if (operators.empty()) return {};
  const Json& peaks = r["speed"]["peaks"];
  std::string rows;
  for (const auto& [name, all] : operators.items())
    for (const Json& m : all)
      rows += fmt::format(
          "<tr><th scope=row>{}</th><td>{}</td><td>{}</td><td class=n>{:.1f}</td><td "
          "class=n>{:.1f}</td><td class=n>{:.1f}</td><td class=n>{:.0f}</td><td>{}</td></tr>\n",
          escape(name), shown(m, "shape"), shown(m, "weights"), m.value("first_us", 0.0),
          m.value("warm_us", 0.0), m.value("launch_us", 0.0), m.value("percent", 0.0),
          shown(m, "bound"));
  return fmt::format(
             "<h2>Speed</h2>\n<p>Against the device's own roofline, from {}: {:.1f} GB/s and "
             "{:.1f} "
             "GFLOP/s in fp32, which is the line; a class of numerics with a peak of its own is "
             "measured against that. {}</p>\n",
             shown(peaks, "from"), peaks.value("bytes_per_second", 0.0) / 1e9,
             peaks.value("flops_per_second", 0.0) / 1e9, escape(beyond_roof(r["speed"]))) +
         roofline(r["speed"]) +
         "<div class=wide><table><thead><tr><th>Operator<th>Shape<th>Weights<th class=n>First, "
         "&micro;s<th "
         "class=n>Warm, &micro;s<th class=n>Launch, &micro;s<th class=n>% of roof<th>Bound "
         "by</tr></thead><tbody>\n" +
         rows + "</tbody></table></div>\n";
}

std::string findings(const Json& r) {
  std::string failed, noted, declined;
  for (const Json& c : r["checks"]) {
    if (!c["failures"].empty())
      failed += "<h3>" + shown(c, "name") + "</h3>" + list_of(c["failures"]);
    if (!c["notes"].empty()) noted += "<h3>" + shown(c, "name") + "</h3>" + list_of(c["notes"]);
    if (!text_of(c, "reason").empty())
      declined += fmt::format("<li><b>{}</b>, {} of {} cases: <span class=t>{}</span></li>",
                              shown(c, "name"), c["declined"].get<int64_t>(),
                              c["cases"].get<int64_t>(), shown(c, "reason"));
  }
  std::string html;
  if (!failed.empty()) html += "<h2>Failures</h2>\n" + failed;
  if (!declined.empty())
    html += "<h2>Not offered</h2>\n<p>The first reason that the chip gave.</p>\n<ul>" + declined +
            "</ul>\n";
  if (!noted.empty()) html += "<h2>Notes</h2>\n" + noted;
  return html;
}

std::string versions(const Json& r) {
  const Json& chip = r["chip"];
  std::string rows;
  const auto row = [&](const char* what, const std::string& value) {
    if (!value.empty()) rows += fmt::format("<dt>{}</dt><dd>{}</dd>\n", what, value);
  };
  row("Date", shown(r, "date"));
  row("Hadal", shown(r, "hadal"));
  row("Contract",
      fmt::format("{} (the chip speaks {})", shown(r, "contract"), shown(chip, "contract")));
  row("File", escape(std::filesystem::path(r.value("file", "")).filename().string()));
  row("Kernels", fmt::format("{}, version {}", shown(chip, "kernels"),
                             chip.value("kernels_version", int64_t{0})));
  row("Instruction sets", shown(chip, "instruction_sets"));
  row("Memory",
      fmt::format("{:.1f} GiB", static_cast<double>(chip.value("memory_bytes", uint64_t{0})) /
                                    (1024.0 * 1024 * 1024)));
  row("Numerics asked for", shown(r, "numerics"));
  row("Same bits alone and in a batch",
      chip.value("row_invariant", false) ? "yes" : "not declared");
  std::string tables, levels;
  for (const auto& [name, there] : chip["tables"].items())
    if (there.get<bool>()) tables += (tables.empty() ? "" : ", ") + escape(name);
  row("Optional tables", tables.empty() ? "none" : tables);
  for (const Json& l : r["levels"])
    levels += (levels.empty() ? "" : ", ") + escape(l.get<std::string>());
  row("Levels that were run", levels);
  row("Seed of the cases", std::to_string(r.value("seed", uint64_t{0})) +
                               (r.value("quick", false) ? ", fewer cases" : ""));
  return "<h2>Versions</h2>\n<dl>\n" + rows + "</dl>\n";
}

}  // namespace

std::string make_page(const Json& r) {
  return "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n<meta name=viewport "
         "content=\"width=device-width,initial-scale=1\">\n<meta name=generator "
         "content=\"hadal chip test\">\n<title>" +
         shown(r["chip"], "name") + ": conformance with Hadal</title>\n<style>" + kStyle +
         "</style>\n</head>\n<body>\n" + header(r) + verdicts(r) + accuracy(r) + models(r) +
         speed(r) + findings(r) + versions(r) + "</body>\n</html>\n";
}

}  // namespace hadal::conformance
