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

nlohmann::json to_json(const EvaluationRecord& record) {
  nlohmann::json json{
      {"type", "val"}, {"step", record.step}, {"epoch", record.epoch}, {"images", record.raw.sums.images}};
  json.update(result_fields(record.raw, ""));
  if (record.ema) json.update(result_fields(*record.ema, "ema_"));
  json["best_top1"] = record.best_top1;
  return json;
}

using Scalars = std::vector<std::pair<std::string, double>>;

Scalars scalars_of(const TrainRecord& record) {
  Scalars scalars{{"train/loss", record.loss},
                  {"train/top1", record.top1},
                  {"train/top5", record.top5},
                  {"train/lr", record.lr},
                  {"train/epoch", record.epoch},
                  {"train/images_per_s", record.images_per_s},
                  {"train/data_queue", record.data_queue},
                  {"train/data_wait_ms", record.data_wait_ms},
                  {"train/grad_norm", record.grad_norm},
                  {"memory/device_peak_bytes", static_cast<double>(record.device_peak_bytes)},
                  {"memory/process_peak_bytes", static_cast<double>(record.process_peak_bytes)}};
  if (record.loss_scale) scalars.emplace_back("train/loss_scale", *record.loss_scale);
  return scalars;
}

void add_result(const std::string& group, const EvalResult& result, Scalars& scalars) {
  scalars.emplace_back(group + "/loss", result.sums.loss());
  scalars.emplace_back(group + "/top1", result.sums.top1());
  scalars.emplace_back(group + "/top5", result.sums.top5());
  scalars.emplace_back(group + "/images_per_s", result.images_per_s());
}

Scalars scalars_of(const EvaluationRecord& record) {
  Scalars scalars;
  add_result("val", record.raw, scalars);
  if (record.ema) add_result("ema", *record.ema, scalars);
  scalars.emplace_back("val/best_top1", record.best_top1);
  return scalars;
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

}  // namespace

// TensorBoard forgets what it knows of the first step to come and later ones.
RunLog::RunLog(const RunFolder& folder, std::string title, const LogSection& options, int64_t finished_steps,
               std::function<void(const std::string&)> warn)
    : folder_(folder),
      title_(std::move(title)),
      options_(options),
      csv_(folder.metrics_csv(), folder.metrics()),
      events_(options.tensorboard
                  ? std::make_unique<EventWriter>(folder.path(), finished_steps == 0 ? 0 : finished_steps + 1)
                  : nullptr),
      warn_(std::move(warn)) {}

void RunLog::try_to(const std::function<void()>& write) {
  try {
    write();
  } catch (const Error& error) {
    if (!warned_)
      warn_(join("warning: ", error.what(), "; training goes on, and its log lacks what cannot be written"));
    warned_ = true;
  }
}

int64_t RunLog::resume(int64_t step, bool evaluated) {
  std::ifstream file(folder_.metrics());
  std::string kept;
  int64_t dropped = 0;
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json record = parsed_record(line);
    const bool keeps =
        !record.is_null() && record["step"] <= step && (evaluated || record["type"] != "val" || record["step"] != step);
    if (!keeps) {
      ++dropped;
      continue;
    }
    kept += line + "\n";
    add_to_curves(record);
    if (record["type"] == "recalibrated") note_recalibrated(record);
  }
  file.close();
  write_text_file(folder_.metrics(), kept);
  csv_ = MetricsCsv(folder_.metrics_csv(), folder_.metrics());
  return dropped;
}

void RunLog::note_recalibrated(const nlohmann::json& record) {
  const double raw = record.value("top1", -1.0), ema = record.value("ema_top1", -1.0);
  if (std::max(raw, ema) <= best_recalibrated_.top1) return;
  best_recalibrated_ = {std::max(raw, ema), ema > raw ? "recalibrated EMA weights" : "recalibrated weights"};
}

void RunLog::append(const nlohmann::json& record) {
  folder_.append_metrics(record);
  try_to([&] { csv_.append(record); });
}

void RunLog::add_scalars(int64_t step, const Scalars& scalars) {
  if (!events_) return;
  events_->scalars(step, scalars);
  try_to([&] { events_->flush(); });
}

void RunLog::train(const TrainRecord& record) {
  const nlohmann::json json = to_json(record);
  append(json);
  add_scalars(record.step, scalars_of(record));
  add_to_curves(json);
}

void RunLog::evaluation(const EvaluationRecord& record) {
  const nlohmann::json json = to_json(record);
  append(json);
  add_scalars(record.step, scalars_of(record));
  add_to_curves(json);
  try_to([&] { write_curves(); });
}

void RunLog::first_batch(const Batch& batch, const std::vector<std::string>& classes) {
  show(0, "samples.png", "train/images", sample_sheet(batch, classes));
}

void RunLog::network(int64_t step, Backend& backend, ShuffleNetV2& network, double loss_scale, bool bgr) {
  show(step, "filters.png", "weights/first_layer", filter_sheet(backend, network, bgr));
  if (!events_ || options_.histograms == "none") return;
  events_->histograms(step, weight_histograms(backend, network));
  events_->histograms(step, gradient_histograms(backend, network, loss_scale));
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
