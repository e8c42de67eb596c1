// What the world calls ShuffleNetV2's tensors: torchvision, the authors (Megvii), tensorpack and a well-known Keras
// tutorial each have names and layouts of their own. A table of pairs serves reading and writing alike.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "layers/shufflenet_v2.h"
#include "train/checkpoint/host_tensor.h"

namespace riffle {

// Who named the tensors of a file. kRiffle: the names of our own modules, which for the torchvision dialect are
// torchvision's, and for the other two have branch_proj and branch_main in their place.
enum class Naming { kRiffle, kMegvii, kTensorpack, kKeras };

const char* describe(Naming naming);  // "Megvii's (features.0.branch_main.0.weight)"

// From the file's axes to ours in files (PyTorch's).
enum class FileLayout {
  kSame,
  kConvolution,  // (kH,kW,I,O): TensorFlow's filters
  kDepthwise,    // (kH,kW,C,1) or (kH,kW,C): TensorFlow's depthwise filters
  kTransposed,   // (I,O): TensorFlow's matrices
};

struct NamePair {
  std::string native;  // "stage2.0.branch_main.3.weight"
  std::string file;    // "stage2/block0/dconv/W"
  FileLayout layout = FileLayout::kSame;
};

// All tensors of a network of these stages (its dialect, stage_repeats and nothing else count), without batch counters.
std::vector<NamePair> name_pairs(Naming naming, const ShuffleNetV2Config& model);
// PyTorch's num_batches_tracked of every norm; empty for names of TensorFlow's.
std::vector<NamePair> counter_pairs(Naming naming, const ShuffleNetV2Config& model);

// Of a unit, where a file's names show it. Stages are counted from 0; stage -1: `unit` counts through all stages.
struct UnitName {
  int64_t stage = 0, unit = 0;
  bool projects = false;  // the tensor is of the branch that only the first unit of a stage has
};
struct NameKind {
  Naming naming;
  UnitName unit;
};
// Longer names are nobody's. The bound is for std::regex, which needs stack for every character.
inline constexpr size_t kLongestName = 300;

// Whose name of a unit's tensor this is; nothing for all other names.
std::optional<NameKind> recognise(const std::string& name);

// Axes moved, bytes kept. Throws for a rank that the layout does not have; `what` names the tensor.
HostTensor from_file_layout(const HostTensor& tensor, FileLayout layout, const std::string& what);
HostTensor to_file_layout(const HostTensor& tensor, FileLayout layout, const std::string& what);

// Why a tensor of this name is no part of a network: "optimizer state", "counters", ...; "" if it may well be.
std::string reason_to_ignore(const std::string& name);

}  // namespace riffle
