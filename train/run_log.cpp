// The log and the curves of a run.
#include "train/run_log.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

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
  }
  file.close();
  write_text_file(folder_.metrics(), kept);
  return dropped;
}

void RunLog::train(const TrainRecord& record) {
  const nlohmann::json json = to_json(record);
  folder_.append_metrics(json);
  add_to_curves(json);
}

void RunLog::evaluation(const EvaluationRecord& record) {
  const nlohmann::json json = to_json(record);
  folder_.append_metrics(json);
  add_to_curves(json);
  write_curves();
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
