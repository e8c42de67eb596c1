// The log and the curves of a run.
#include "train/run_log.h"

#include <cmath>
#include <fstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "data/encode.h"
#include "train/run_images.h"
#include "train/tensorboard/network_histograms.h"

namespace riffle {
namespace {

nlohmann::json result_fields(const EvalResult& result, const std::string& prefix) {
  return {{prefix + "top1", result.sums.top1()},
          {prefix + "top5", result.sums.top5()},
          {prefix + "loss", result.sums.loss()},
          {prefix + "images_per_s", result.images_per_s()}};
}

nlohmann::json to_json(const TrainRecord& record) {
  nlohmann::json json{{"type", "train"},
                      {"step", record.step},
                      {"epoch", record.epoch},
                      {"loss", record.loss},
                      {"top1", record.top1},
                      {"top5", record.top5},
                      {"lr", record.lr},
                      {"images_per_s", record.images_per_s},
                      {"data_queue", record.data_queue},
                      {"data_wait_ms", record.data_wait_ms},
                      {"grad_norm", record.grad_norm}};
  if (!std::isfinite(record.grad_norm)) json["grad_norm"] = nullptr;  // the step was skipped
  if (record.loss_scale) json["loss_scale"] = *record.loss_scale;
  json["device_peak_bytes"] = record.device_peak_bytes;
  json["process_peak_bytes"] = record.process_peak_bytes;
  return json;
}

nlohmann::json to_json(const EvaluationRecord& record, const std::string& type) {
  nlohmann::json json{
      {"type", type}, {"step", record.step}, {"epoch", record.epoch}, {"images", record.raw.sums.images}};
  json.update(result_fields(record.raw, ""));
  if (record.ema) json.update(result_fields(*record.ema, "ema_"));
  json["best_top1"] = record.best_top1;
  return json;
}

// Numbers that are not finite are null in JSON; the curves leave them out.
double number(const nlohmann::json& record, const std::string& key) {
  const auto found = record.find(key);
  return found != record.end() && found->is_number() ? found->get<double>() : std::nan("");
}

// A record, or null where the line is none: the last one of a killed process may be cut.
nlohmann::json parsed_record(const std::string& line) {
  nlohmann::json record = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  const bool valid = record.is_object() && record.contains("type") && record["type"].is_string() &&
                     record.contains("step") && record["step"].is_number_integer();
  return valid ? record : nlohmann::json();
}

// TensorBoard's tag for a field of a record; "" for those that it does not show.
std::string tag_of(const std::string& type, const std::string& key) {
  if (type == "train") return (key.find("_peak_bytes") == std::string::npos ? "train/" : "memory/") + key;
  if (key == "epoch" || key == "images" || key == "recalibration_images") return "";
  const bool averaged = key.rfind("ema_", 0) == 0;
  if (type == "val") return averaged ? "ema/" + key.substr(4) : "val/" + key;
  return averaged ? type + "_ema/" + key.substr(4) : type + "/" + key;
}

// All numbers of a record but its step.
std::vector<std::pair<std::string, double>> scalars_of(const nlohmann::json& record) {
  std::vector<std::pair<std::string, double>> scalars;
  for (const auto& [key, value] : record.items()) {
    const std::string tag = key == "step" || key == "type" ? "" : tag_of(record["type"], key);
    if (!tag.empty()) scalars.emplace_back(tag, number(record, key));
  }
  return scalars;
}

}  // namespace

// Rewrites metrics.jsonl without the records that do not count.
RunLog::Earlier RunLog::keep_records(const std::string& path, int64_t step, bool evaluated) {
  Earlier earlier{step, false, 0};
  std::ifstream file(path);
  std::string kept;
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json record = parsed_record(line);
    const bool repeats = !record.is_null() && !evaluated && record["type"] == "val" && record["step"] == step;
    earlier.evaluation_repeats = earlier.evaluation_repeats || repeats;
    if (record.is_null() || record["step"] > step || repeats) {
      ++earlier.dropped;
    } else {
      kept += line + "\n";
    }
  }
  file.close();
  write_text_file(path, kept);
  return earlier;
}

RunLog::RunLog(const RunFolder& folder, std::string title, const LogSection& options, int64_t finished_steps,
               bool evaluated, std::function<void(const std::string&)> warn)
    : RunLog(folder, std::move(title), options, keep_records(folder.metrics(), finished_steps, evaluated),
             std::move(warn)) {}

// TensorBoard forgets what it knows of the first step to come and later ones. Of a step whose evaluation comes again it
// must forget all, so what does not come again is told it anew.
RunLog::RunLog(const RunFolder& folder, std::string title, const LogSection& options, const Earlier& earlier,
               std::function<void(const std::string&)> warn)
    : folder_(folder),
      title_(std::move(title)),
      options_(options),
      csv_(folder.metrics_csv(), folder.metrics()),
      events_(options.tensorboard
                  ? std::make_unique<EventWriter>(folder.path(), earlier.step == 0 || earlier.evaluation_repeats
                                                                     ? earlier.step
                                                                     : earlier.step + 1)
                  : nullptr),
      warn_(std::move(warn)),
      dropped_records_(earlier.dropped) {
  std::ifstream file(folder_.metrics());
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json record = parsed_record(line);
    add_to_curves(record);
    if (record["type"] == kRecalibrated) note_recalibrated(record);
    if (earlier.evaluation_repeats && record["step"] == earlier.step) add_scalars(record);
  }
}

void RunLog::try_to(const std::function<void()>& write) {
  try {
    write();
  } catch (const Error& error) {
    if (!warned_)
      warn_(join("warning: ", error.what(), "; training goes on, and records are kept until they can be written"));
    warned_ = true;
  }
}

void RunLog::note_recalibrated(const nlohmann::json& record) {
  const double raw = record.value("top1", -1.0), ema = record.value("ema_top1", -1.0);
  if (std::max(raw, ema) <= best_recalibrated_.top1) return;
  best_recalibrated_ = {std::max(raw, ema), ema > raw ? "recalibrated EMA weights" : "recalibrated weights"};
}

void RunLog::append(const nlohmann::json& record) {
  unwritten_.push_back(record);
  unwritten_rows_.push_back(record);
  write_records();
}

void RunLog::write_records() {
  const auto write = [this](std::deque<nlohmann::json>& records, const auto& append_one) {
    try_to([&] {
      for (; !records.empty(); records.pop_front()) append_one(records.front());
    });
  };
  write(unwritten_, [this](const nlohmann::json& record) { folder_.append_metrics(record); });
  write(unwritten_rows_, [this](const nlohmann::json& record) { csv_.append(record); });
}

void RunLog::finish() {
  write_records();
  const auto say = [this](size_t missing, const std::string& path) {
    if (missing > 0)
      warn_(join("warning: ", path, " lacks ", missing, missing == 1 ? " record" : " records",
                 " that could not be written"));
  };
  say(unwritten_.size(), folder_.metrics());
  say(unwritten_rows_.size(), folder_.metrics_csv());
  try {
    if (events_) events_->flush();
  } catch (const Error& error) {
    warn_(join("warning: ", error.what(), "; TensorBoard lacks what could not be written"));
  }
}

void RunLog::add_scalars(const nlohmann::json& record) {
  if (!events_) return;
  events_->scalars(record["step"], scalars_of(record));
  try_to([&] { events_->flush(); });
}

void RunLog::train(const TrainRecord& record) {
  const nlohmann::json json = to_json(record);
  append(json);
  add_scalars(json);
  add_to_curves(json);
}

void RunLog::evaluation(const EvaluationRecord& record) {
  const nlohmann::json json = to_json(record, "val");
  append(json);
  add_scalars(json);
  add_to_curves(json);
  try_to([&] { write_curves(); });
}

void RunLog::recalibrated(const EvaluationRecord& record, int64_t training_images) {
  nlohmann::json json = to_json(record, kRecalibrated);
  json["recalibration_images"] = training_images;
  append(json);
  add_scalars(json);
}

void RunLog::first_batch(const Batch& batch, const std::vector<std::string>& classes) {
  show(0, "samples.png", "train/images", sample_sheet(batch, classes));
}

void RunLog::network(int64_t step, Backend& backend, ShuffleNetV2& network, std::optional<double> gradient_scale,
                     bool bgr) {
  show(step, "filters.png", "weights/first_layer", filter_sheet(backend, network, bgr));
  if (!events_ || options_.histograms == "none") return;
  events_->histograms(step, weight_histograms(backend, network));
  if (gradient_scale) events_->histograms(step, gradient_histograms(backend, network, *gradient_scale));
  try_to([&] { events_->flush(); });
}

void RunLog::show(int64_t step, const std::string& name, const std::string& tag, const Image& image) {
  const std::vector<uint8_t> png = encode_png(image);
  try_to([&] { write_text_file(folder_.file(name), std::string(png.begin(), png.end())); });
  if (!events_) return;
  events_->image(step, tag, image.width, image.height, image.channels, png);
  try_to([&] { events_->flush(); });
}

void RunLog::add_to_curves(const nlohmann::json& record) {
  const double epoch = number(record, "epoch");
  const auto add = [&](const std::string& prefix, Curve& loss, Curve& top1) {
    loss.points.push_back({epoch, number(record, prefix + "loss")});
    top1.points.push_back({epoch, 100 * number(record, prefix + "top1")});
  };
  if (record["type"] == "train") add("", train_loss_, train_top1_);
  if (record["type"] == "val") add("", val_loss_, val_top1_);
  if (record["type"] == "val" && record.contains("ema_loss")) add("ema_", ema_loss_, ema_top1_);
}

void RunLog::write_curves() const {
  Panel loss{"loss", {train_loss_, val_loss_}};
  Panel top1{"top-1 accuracy (%)", {train_top1_, val_top1_}};
  if (!ema_loss_.points.empty()) {
    loss.curves.push_back(ema_loss_);
    top1.curves.push_back(ema_top1_);
  }
  write_text_file(folder_.curves(), curves_svg(title_, "epoch", {loss, top1}));
}

}  // namespace riffle
