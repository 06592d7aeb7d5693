#include "roofline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace hadal::conformance {
namespace {

constexpr double kWidth = 720, kHeight = 380, kLeft = 62, kRight = 16, kTop = 16, kBottom = 44;

/// Powers of ten on both axes.
struct Axes {
  double x_low = -2, x_high = 3, y_low = 6, y_high = 12;
  [[nodiscard]] double x(double intensity) const {
    return kLeft + (std::log10(intensity) - x_low) / (x_high - x_low) * (kWidth - kLeft - kRight);
  }
  [[nodiscard]] double y(double rate) const {
    return kHeight - kBottom -
           (std::log10(rate) - y_low) / (y_high - y_low) * (kHeight - kTop - kBottom);
  }
};

/// Where text stands: corners in the plot.
struct Box {
  double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
  [[nodiscard]] bool meets(const Box& b) const {
    return x0 < b.x1 && b.x0 < x1 && y0 < b.y1 && b.y0 < y1;
  }
};

/// Names of points, none over another or over a point. One that finds no room is left out: the
/// table has it, and the point's title.
class Labels {
 public:
  void keep_free(double x, double y) { taken_.push_back({x - 4, y - 4, x + 4, y + 4}); }
  std::string put(double x, double y, const std::string& name) {
    constexpr double kLetter = 6.2, kHigh = 11, kGap = 6;
    const double width = kLetter * static_cast<double>(name.size());
    for (const double down : {4.0, -7.0, 15.0, -18.0, 26.0, -29.0, 37.0, -40.0})
      for (const double left : {x + kGap, x - kGap - width}) {
        const Box box = {left, y + down - kHigh, left + width, y + down + 2};
        const bool inside = box.x0 > kLeft && box.x1 < kWidth - kRight && box.y0 > kTop &&
                            box.y1 < kHeight - kBottom;
        if (!inside || std::any_of(taken_.begin(), taken_.end(),
                                   [&](const Box& other) { return box.meets(other); }))
          continue;
        taken_.push_back(box);
        return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" style=\"font-size:11px\">{}</text>\n",
                           left, y + down, escape(name));
      }
    return {};
  }

 private:
  std::vector<Box> taken_;
};

struct Point {
  std::string name, shape;
  double intensity = 0, rate = 0, percent = 0;
};

std::vector<Point> points_of(const Json& operators) {
  std::vector<Point> points;
  for (const auto& [name, all] : operators.items())
    for (const Json& m : all) {
      const double flops = m.value("flops", 0.0), bytes = m.value("bytes", 0.0),
                   seconds = m.value("warm_us", 0.0) * 1e-6;
      // What computes nothing has no place in the plot.
      if (flops > 0 && bytes > 0 && seconds > 0)
        points.push_back({name, m.value("shape", std::string()), flops / bytes, flops / seconds,
                          m.value("percent", 0.0)});
    }
  return points;
}

std::string grid(const Axes& axes) {
  std::string svg;
  for (int d = static_cast<int>(axes.x_low); d <= static_cast<int>(axes.x_high); ++d) {
    const double x = axes.x(std::pow(10.0, d));
    svg += fmt::format(
        "<line x1=\"{0:.1f}\" y1=\"{1}\" x2=\"{0:.1f}\" y2=\"{2}\" stroke=\"#e3e8ed\"/><text "
        "x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4:g}</text>\n",
        x, kTop, kHeight - kBottom, kHeight - kBottom + 16, std::pow(10.0, d));
  }
  for (int d = static_cast<int>(axes.y_low); d <= static_cast<int>(axes.y_high); ++d) {
    const double y = axes.y(std::pow(10.0, d));
    svg += fmt::format(
        "<line x1=\"{0}\" y1=\"{1:.1f}\" x2=\"{2}\" y2=\"{1:.1f}\" stroke=\"#e3e8ed\"/><text "
        "x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5:g}</text>\n",
        kLeft, y, kWidth - kRight, kLeft - 6, y + 4, std::pow(10.0, d - 9));
  }
  return svg + fmt::format(
                   "<text x=\"{:.0f}\" y=\"{}\" text-anchor=\"middle\">operations per byte</text>"
                   "<text x=\"14\" y=\"{:.0f}\" text-anchor=\"middle\" transform=\"rotate(-90 14 "
                   "{:.0f})\">GFLOP/s</text>\n",
                   (kLeft + kWidth) / 2, kHeight - 8, kHeight / 2, kHeight / 2);
}

}  // namespace

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20) out += c;
    }
  return out;
}

std::string beyond_roof(const Json& speed) {
  bool memory = false, arithmetic = false;
  for (const auto& [name, all] : speed["operators"].items())
    for (const Json& m : all) {
      if (!(m.value("percent", 0.0) > 100)) continue;
      (m.value("bound", std::string()) == "memory" ? memory : arithmetic) = true;
    }
  std::string why;
  if (memory)
    why =
        "More than 100 % of memory: operands stayed in the device's caches, which are faster than "
        "the memory whose bandwidth is the roof, or others used that memory when it was measured.";
  if (arithmetic)
    why +=
        std::string(why.empty() ? "" : " ") +
        "More than 100 % of arithmetic: the peak was measured by a kernel that is slower, or while "
        "others used the device.";
  return why;
}

std::string roofline(const Json& speed) {
  const double bytes = speed["peaks"].value("bytes_per_second", 0.0),
               flops = speed["peaks"].value("flops_per_second", 0.0);
  const std::vector<Point> points = points_of(speed["operators"]);
  if (!(bytes > 0) || !(flops > 0) || points.empty()) return {};
  Axes axes;
  axes.y_high = std::ceil(std::log10(flops));
  for (const Point& p : points) {
    axes.x_low = std::min(axes.x_low, std::floor(std::log10(p.intensity)));
    axes.x_high = std::max(axes.x_high, std::ceil(std::log10(p.intensity)));
    axes.y_high = std::max(axes.y_high, std::ceil(std::log10(p.rate)));
  }
  axes.y_low = std::floor(axes.y_high - 5);
  for (const Point& p : points) axes.y_low = std::min(axes.y_low, std::floor(std::log10(p.rate)));
  const double ridge = flops / bytes,
               start = std::max(std::pow(10.0, axes.x_low), std::pow(10.0, axes.y_low) / bytes);
  std::string svg = fmt::format(
      "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Roofline of the operators\">\n", kWidth,
      kHeight);
  svg += grid(axes);
  svg += fmt::format(
      "<polyline fill=\"none\" stroke=\"#1c2127\" stroke-width=\"2\" points=\"{:.1f},{:.1f} "
      "{:.1f},{:.1f} {:.1f},{:.1f}\"/>\n",
      axes.x(start), axes.y(start * bytes), axes.x(ridge), axes.y(flops), kWidth - kRight,
      axes.y(flops));
  Labels labels;
  for (const Point& p : points) {
    svg += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"#1f5fa8\" fill-opacity=\".75\"><title>"
        "{} {}: {:.0f} % of the roof</title></circle>\n",
        axes.x(p.intensity), axes.y(p.rate), escape(p.name), escape(p.shape), p.percent);
    labels.keep_free(axes.x(p.intensity), axes.y(p.rate));
  }
  std::string last;
  for (const Point& p : points) {
    if (p.name != last) svg += labels.put(axes.x(p.intensity), axes.y(p.rate), p.name);
    last = p.name;
  }
  return svg + "</svg>\n";
}

}  // namespace hadal::conformance
