// The log and the curves of a run.
#include "train/run_log.h"

#include <nlohmann/json.hpp>

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
                      {"data_wait_ms", record.data_wait_ms}};
  if (record.grad_norm) json["grad_norm"] = *record.grad_norm;
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

void add_point(Curve& loss, Curve& top1, double epoch, double loss_value, double top1_fraction) {
  loss.points.push_back({epoch, loss_value});
  top1.points.push_back({epoch, 100 * top1_fraction});
}

}  // namespace

void RunLog::train(const TrainRecord& record) {
  folder_.append_metrics(to_json(record));
  add_point(train_loss_, train_top1_, record.epoch, record.loss, record.top1);
}

void RunLog::evaluation(const EvaluationRecord& record) {
  folder_.append_metrics(to_json(record));
  add_point(val_loss_, val_top1_, record.epoch, record.raw.sums.loss(), record.raw.sums.top1());
  if (record.ema) add_point(ema_loss_, ema_top1_, record.epoch, record.ema->sums.loss(), record.ema->sums.top1());
  write_curves();
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
