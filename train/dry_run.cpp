// What a dry run says.
#include "train/dry_run.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "train/terminal_chart.h"
#include "train/text.h"

namespace riffle {
namespace {

constexpr size_t kIndent = 12, kChartRows = 6, kFewestColumns = 40;

using Lines = std::vector<std::string>;

// The first line has a heading, those below it are indented alike.
Lines headed(std::string heading, const Lines& texts) {
  Lines lines;
  for (const std::string& text : texts) {
    heading.resize(kIndent, ' ');
    lines.push_back(heading + text);
    heading.clear();
  }
  return lines;
}

std::string in_bytes(int64_t bytes) {
  return format_bytes(static_cast<double>(bytes));
}

std::string rate(int64_t images, double seconds) {
  const double images_per_s = static_cast<double>(images) / seconds;
  return format_fixed(images_per_s, images_per_s < 10 ? 1 : 0) + " images/s";
}

Lines describe_speed(const Trial& trial, int64_t images, const RunLength& run) {
  const bool waits = trial.loading_seconds > trial.step_seconds;
  Lines lines{join(trial.steps, trial.steps == 1 ? " step" : " steps", " taken, the last at ",
                   rate(images, trial.step_seconds)),
              join("training images alone are loaded at ", rate(images, trial.loading_seconds),
                   waits ? ": the network would wait for them" : "")};
  lines.push_back(join("an estimate from these: training would take about ",
                       format_duration(estimated_seconds(trial, run.steps)), " besides evaluation"));
  if (trial.steps == 1) lines.push_back("(from a first step, which takes longer than later ones)");
  return lines;
}

std::string describe_batch(const Config& config) {
  const int accumulate = config.optimizer.accumulate;
  const std::string effective = format_count(config.images_per_step()) + " images a step";
  if (accumulate == 1) return effective;
  return join(effective, ": ", accumulate, " batches of ", format_count(config.train.batch), " (optimizer.accumulate)");
}

// Sizes in a column of their own.
std::string memory_row(const std::string& what, int64_t bytes, const std::string& note = "") {
  constexpr size_t kNameColumns = 26, kSizeColumns = 11;
  const std::string size = in_bytes(bytes);
  std::string row = what;
  row.resize(std::max(row.size(), kNameColumns + kSizeColumns - size.size()), ' ');
  return row + size + (note.empty() ? "" : "  " + note);
}

Lines describe_memory_plan(const MemoryPlan& plan, const Config& config) {
  const int64_t named = plan.parameters + plan.gradients + plan.momentum + plan.averages;
  Lines lines{memory_row("parameters", plan.parameters, "with batch norm's statistics"),
              memory_row("gradients", plan.gradients), memory_row("momentum", plan.momentum)};
  if (plan.averages > 0) lines.push_back(memory_row("moving averages", plan.averages, "and the network they fill"));
  lines.push_back(memory_row("images, results, rounding", plan.in_use - named, "measured"));
  lines.push_back(memory_row("activations, workspace", plan.peak - plan.in_use, "measured, at most during a step"));
  lines.push_back(
      memory_row("peak of tensors", plan.peak, join("measured; the allocator holds ", in_bytes(plan.held))));
  lines.push_back(memory_row(
      "loaders' batches", plan.training_batches + plan.evaluation_batches,
      join("host memory: ", config.data.prefetch, " for training, ", config.data.prefetch, " for evaluation")));
  lines.push_back(memory_row("process", plan.process_peak, "measured: the most that was resident"));
  for (const ImageSizeChange& change : config.augment.sizes)
    if (change.size > config.augment.size)
      lines.push_back(
          join("more from epoch ", change.from.text(), " on, with images of ", change.size, "x", change.size));
  return lines;
}

// `count` steps, the first and the last among them.
std::vector<double> sampled(const LearningRate& learning_rate, int64_t steps, int64_t count) {
  std::vector<double> values;
  const double stride = static_cast<double>(steps - 1) / static_cast<double>(count - 1);
  for (int64_t i = 0; i < count; ++i)
    values.push_back(learning_rate.at(static_cast<int64_t>(static_cast<double>(i) * stride)));
  return values;
}

std::string without_trailing_spaces(const std::string& text) {
  return text.substr(0, text.find_last_not_of(' ') + 1);
}

Lines describe_learning_rate(const LearningRate& learning_rate, const RunLength& run, size_t columns, bool utf8) {
  constexpr int64_t kLookedAt = 65536;
  const auto label = [](double value) { return format_significant(value, 4); };
  const std::vector<double> looked_at = sampled(learning_rate, run.steps, std::clamp<int64_t>(run.steps, 2, kLookedAt));
  const std::string top = label(*std::max_element(looked_at.begin(), looked_at.end()));
  const size_t width = std::max(columns, kFewestColumns) - kIndent - top.size() - 2;
  const std::string axis = utf8 ? "│" : "|", corner = utf8 ? "└" : "+", line = utf8 ? "─" : "-";

  Lines lines;
  const std::vector<double> values = sampled(learning_rate, run.steps, static_cast<int64_t>(width));
  for (const std::string& row : column_chart(values, kChartRows, utf8)) {
    const std::string left = lines.empty() ? top : std::string(top.size(), ' ');
    lines.push_back(without_trailing_spaces(join(left, " ", axis, row)));
  }
  lines.push_back(std::string(top.size() - 1, ' ') + "0 " + corner);
  for (size_t i = 0; i < width; ++i) lines.back() += line;
  const std::string first = "step 1: " + label(learning_rate.at(0));
  const std::string last = join("step ", format_count(run.steps), ": ", label(learning_rate.at(run.steps - 1)));
  const size_t used = first.size() + last.size();
  lines.push_back(std::string(top.size() + 2, ' ') + first + std::string(width > used ? width - used : 1, ' ') + last);
  return lines;
}

}  // namespace

double estimated_seconds(const Trial& trial, int64_t steps) {
  return std::max(trial.step_seconds, trial.loading_seconds) * static_cast<double>(steps);
}

Lines describe_trial(const Trial& trial, const Config& config, const LearningRate& learning_rate, const RunLength& run,
                     size_t columns, bool utf8) {
  Lines lines;
  const auto add = [&lines](const Lines& part) { lines.insert(lines.end(), part.begin(), part.end()); };
  add(headed("dry run", describe_speed(trial, config.images_per_step(), run)));
  add(headed("batch", {describe_batch(config)}));
  add(headed("steps", {join(format_count(run.steps), " in all, ", format_count(run.steps_per_epoch), " an epoch")}));
  add(headed("memory", describe_memory_plan(trial.memory, config)));
  add(headed("rate", describe_learning_rate(learning_rate, run, columns, utf8)));
  return lines;
}

}  // namespace riffle
