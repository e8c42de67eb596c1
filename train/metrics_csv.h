// metrics.csv: the records of metrics.jsonl as a table, for spreadsheets. A column that a record does not have is empty.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace riffle {

class MetricsCsv {
 public:
  // Begins the file with what metrics.jsonl holds already, so that after a resume the two say the same. A last line that
  // a killed run left unfinished there is passed over.
  MetricsCsv(std::string path, const std::string& metrics_jsonl);

  // Columns are added at the end, never moved.
  static const std::vector<std::string>& columns();
  void append(const nlohmann::json& record) const;  // one row, or, where it throws, none

 private:
  std::string path_;
};

}  // namespace riffle
