// Averaging checkpoints.
#include "train/average_checkpoints.h"

#include <cstring>
#include <map>

#include "core/check.h"
#include "train/checkpoint/module_io.h"
#include "train/loaded_model.h"
#include "train/version.h"

namespace riffle {
namespace {

void check_same(const StoredNetwork& first, const std::string& first_path, const StoredNetwork& other,
                const std::string& path) {
  const nlohmann::json a = to_json(first.metadata), b = to_json(other.metadata);
  for (const char* part : {"model", "normalisation"}) {
    for (const auto& [key, value] : a.at(part).items()) {
      if (b.at(part).at(key) == value) continue;
      fail(path, ": ", part, ".", key, " is ", b.at(part).at(key).dump(), ", but ", value.dump(), " in ", first_path,
           "; only checkpoints of one network with one input can be averaged");
    }
  }
  for (size_t i = 0; i < first.metadata.classes.size(); ++i) {
    if (first.metadata.classes[i] == other.metadata.classes[i]) continue;
    fail(path, ": class ", i, " is '", other.metadata.classes[i], "', but '", first.metadata.classes[i], "' in ",
         first_path, "; only checkpoints of the same classes can be averaged");
  }
}

using Sums = std::map<std::string, std::vector<double>>;

bool is_part_of_network(const std::string& name) {
  const auto begins = [&](const std::string& prefix) { return name.rfind(prefix, 0) == 0; };
  return !begins("optimizer.") && !begins(kAveragePrefix);
}

void add(const TensorMap& tensors, const std::string& path, Sums& sums) {
  for (auto& [name, sum] : sums) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) fail(path, ": tensor '", name, "' is missing");
    const std::vector<float> values = to_f32(found->second, join(path, ": ", name));
    if (values.size() != sum.size())
      fail(path, ": tensor '", name, "' has ", values.size(), " values; expected ", sum.size());
    for (size_t i = 0; i < values.size(); ++i) sum[i] += values[i];
  }
}

HostTensor mean_of(const std::vector<double>& sum, size_t count, const std::vector<int64_t>& shape) {
  std::vector<float> mean(sum.size());
  for (size_t i = 0; i < sum.size(); ++i) mean[i] = static_cast<float>(sum[i] / static_cast<double>(count));
  HostTensor tensor{FileDType::kF32, shape, std::vector<uint8_t>(mean.size() * sizeof(float))};
  std::memcpy(tensor.bytes.data(), mean.data(), tensor.bytes.size());
  return tensor;
}

}  // namespace

CheckpointFile average_checkpoints(const std::vector<std::string>& paths, const std::string& weights) {
  if (paths.size() < 2)
    fail_usage("an average of ", paths.size(), " checkpoint", paths.size() == 1 ? "" : "s", "; expected two or more");
  const StoredNetwork first = read_network(paths.front(), weights);
  Sums sums;
  for (const auto& [name, tensor] : first.tensors) {
    if (is_part_of_network(name) && converts_to_f32(tensor.dtype))
      sums.emplace(name, std::vector<double>(static_cast<size_t>(tensor.elements()), 0.0));
  }
  CheckpointMetadata metadata = first.metadata;
  add(first.tensors, paths.front(), sums);
  for (size_t i = 1; i < paths.size(); ++i) {
    const StoredNetwork other = read_network(paths[i], weights);
    check_same(first, paths.front(), other, paths[i]);
    add(other.tensors, paths[i], sums);
    metadata = other.metadata;
  }
  metadata.metrics.reset();
  metadata.recalibrated_images.reset();
  metadata.riffle_version = kVersion;
  CheckpointFile file;
  file.metadata = to_json(metadata);
  for (const auto& [name, sum] : sums)
    file.tensors.emplace(name, mean_of(sum, paths.size(), first.tensors.at(name).shape));
  return file;
}

}  // namespace riffle
