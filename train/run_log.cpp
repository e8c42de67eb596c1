// The log and the curves of a run.
#include "train/run_log.h"

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

void add_scalars(const std::string& group, const EvalResult& result, Scalars& scalars) {
  scalars.emplace_back(group + "/loss", result.sums.loss());
  scalars.emplace_back(group + "/top1", result.sums.top1());
  scalars.emplace_back(group + "/top5", result.sums.top5());
  scalars.emplace_back(group + "/images_per_s", result.images_per_s());
}

Scalars scalars_of(const EvaluationRecord& record) {
  Scalars scalars;
  add_scalars("val", record.raw, scalars);
  if (record.ema) add_scalars("ema", *record.ema, scalars);
  scalars.emplace_back("val/best_top1", record.best_top1);
  return scalars;
}

void add_point(Curve& loss, Curve& top1, double epoch, double loss_value, double top1_fraction) {
  loss.points.push_back({epoch, loss_value});
  top1.points.push_back({epoch, 100 * top1_fraction});
}

}  // namespace

// TensorBoard forgets what it knows of the first step to come and later ones.
RunLog::RunLog(const RunFolder& folder, std::string title, const LogSection& options, int64_t finished_steps)
    : folder_(folder),
      title_(std::move(title)),
      options_(options),
      csv_(folder.metrics_csv(), folder.metrics()),
      events_(options.tensorboard
                  ? std::make_unique<EventWriter>(folder.path(), finished_steps == 0 ? 0 : finished_steps + 1)
                  : nullptr) {}

void RunLog::append(const nlohmann::json& record) const {
  folder_.append_metrics(record);
  csv_.append(record);
}

void RunLog::train(const TrainRecord& record) {
  append(to_json(record));
  if (events_) {
    events_->scalars(record.step, scalars_of(record));
    events_->flush();
  }
  add_point(train_loss_, train_top1_, record.epoch, record.loss, record.top1);
}

void RunLog::evaluation(const EvaluationRecord& record) {
  append(to_json(record));
  if (events_) {
    events_->scalars(record.step, scalars_of(record));
    events_->flush();
  }
  add_point(val_loss_, val_top1_, record.epoch, record.raw.sums.loss(), record.raw.sums.top1());
  if (record.ema) add_point(ema_loss_, ema_top1_, record.epoch, record.ema->sums.loss(), record.ema->sums.top1());
  write_curves();
}

void RunLog::first_batch(const Batch& batch, const std::vector<std::string>& classes) {
  show(0, "samples.png", "train/images", sample_sheet(batch, classes));
}

void RunLog::network(int64_t step, Backend& backend, ShuffleNetV2& network, double loss_scale, bool bgr) {
  show(step, "filters.png", "weights/first_layer", filter_sheet(backend, network, bgr));
  if (!events_ || options_.histograms == "none") return;
  events_->histograms(step, weight_histograms(backend, network));
  events_->histograms(step, gradient_histograms(backend, network, loss_scale));
  events_->flush();
}

void RunLog::show(int64_t step, const std::string& name, const std::string& tag, const Image& image) {
  const std::vector<uint8_t> png = encode_png(image);
  write_text_file(folder_.file(name), std::string(png.begin(), png.end()));
  if (!events_) return;
  events_->image(step, tag, image.width, image.height, image.channels, png);
  events_->flush();
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
