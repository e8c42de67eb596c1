// The metrics as a table.
#include "train/metrics_csv.h"

#include <fstream>
#include <utility>

#include "train/checkpoint/file_io.h"
#include "train/run_folder.h"

namespace riffle {
namespace {

using Json = nlohmann::json;

std::string row_of(const Json& record) {
  std::string row;
  for (const std::string& column : MetricsCsv::columns()) {
    if (&column != &MetricsCsv::columns().front()) row += ',';
    const auto value = record.find(column);
    if (value == record.end() || value->is_null()) continue;
    row += value->is_string() ? value->get<std::string>() : value->dump();
  }
  return row + '\n';
}

std::string header() {
  std::string row;
  for (const std::string& column : MetricsCsv::columns()) row += (row.empty() ? "" : ",") + column;
  return row + '\n';
}

}  // namespace

const std::vector<std::string>& MetricsCsv::columns() {
  static const std::vector<std::string> names{"type",
                                              "step",
                                              "epoch",
                                              "loss",
                                              "top1",
                                              "top5",
                                              "lr",
                                              "images_per_s",
                                              "data_queue",
                                              "data_wait_ms",
                                              "grad_norm",
                                              "loss_scale",
                                              "device_peak_bytes",
                                              "process_peak_bytes",
                                              "images",
                                              "ema_loss",
                                              "ema_top1",
                                              "ema_top5",
                                              "ema_images_per_s",
                                              "best_top1",
                                              "recalibration_images"};
  return names;
}

MetricsCsv::MetricsCsv(std::string path, const std::string& metrics_jsonl) : path_(std::move(path)) {
  std::string table = header();
  std::ifstream earlier(metrics_jsonl);
  for (std::string line; std::getline(earlier, line);) {
    const Json record = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (record.is_object()) table += row_of(record);
  }
  write_text_file(path_, table);
}

void MetricsCsv::append(const Json& record) const {
  append_to_file(path_, row_of(record));
}

}  // namespace riffle
