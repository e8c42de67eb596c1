// ShuffleNetV2 (Ma, Zhang, Zheng, Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
// ECCV 2018, table 5), in the three dialects in which weights are published.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "layers/conv_bn.h"
#include "layers/linear.h"
#include "layers/routed_stage.h"
#include "layers/shuffle_unit.h"

namespace riffle {

struct ShuffleNetV2Config {
  Dialect dialect = Dialect::kTorchvision;
  std::vector<int64_t> stage_channels{116, 232, 464};  // output channels of stages 2, 3, 4; even
  std::vector<int64_t> stage_repeats{4, 8, 4};         // units of each stage, the stride-2 one included
  int64_t stem_channels = 24;
  int64_t head_channels = 1024;  // conv5
  int64_t classes = 1000;
  int64_t input_channels = 3;  // 3 or 1
  int64_t stem_stride = 2;     // 2, or 1 for small images
  bool stem_max_pool = true;   // 3x3, stride 2
  double dropout = 0;          // before the classifier

  // The published network of a width: "0.5x", "1.0x", "1.5x" or "2.0x" ("0.5" and "1" too). Anything else throws.
  static ShuffleNetV2Config published(const std::string& width, Dialect dialect);
  // "0.5x" ... where the channels are a published width's, else "custom".
  std::string width_name() const;
  bool operator==(const ShuffleNetV2Config& other) const;
};

// One row of the layer table.
struct LayerRow {
  std::string name;        // "stage2.0.branch1.0"
  std::string kind;        // "depthwise 3x3 /2"
  Shape output;            // for one image
  int64_t parameters = 0;  // of the convolution and the norm after it
  int64_t macs = 0;        // multiply-accumulates of convolutions and the classifier, for one image
};

// How a stage runs. Results agree up to rounding; the order in which parameters are stored differs.
enum class ShuffleExecution {
  kRouted,  // without shuffles: routed_stage.h
  kPlain,   // unit by unit, as published: the definition
};

class ShuffleNetV2 : public Module {
 public:
  // Parameters are allocated on `backend` and initialised as the dialect's authors do, from `seed`.
  ShuffleNetV2(Backend& backend, const ShuffleNetV2Config& config, uint64_t seed,
               ShuffleExecution execution = ShuffleExecution::kRouted);

  // x (N,H,W,input_channels), normalised; H, W >= 32 (any size that leaves one pixel) -> logits (N,1,1,classes).
  Variable forward(const Context& context, const Variable& x);

  // What can be frozen, in the order of the forward pass: "stem", "stage2", ..., "conv5". Only the classifier, whose
  // parameters begin with kClassifier, cannot.
  static constexpr const char* kClassifier = "fc";
  std::vector<std::string> parts() const;
  // Which of them a parameter belongs to, by its full name; their number for the classifier's.
  int64_t part_of(const std::string& parameter) const;
  // Freezes the first `count` parts and thaws the others: forward() then runs those as inference, with running
  // statistics and without a tape, whatever the context says.
  void freeze_parts(Backend& backend, int64_t count);
  int64_t frozen_parts() const { return frozen_parts_; }

  // Folds every batch norm into its convolution (inference only; forward then refuses to train). Idempotent.
  void fold_batch_norm(Backend& backend);

  const ShuffleNetV2Config& config() const { return config_; }
  // The table for one height x width input image.
  std::vector<LayerRow> layer_table(int64_t height, int64_t width) const;
  int64_t parameter_count();

 private:
  struct Stage : Module {
    std::vector<std::unique_ptr<ShuffleUnit>> units;
    std::unique_ptr<RoutedStage> routed;  // null: plain
  };
  Variable forward_part(const Context& context, int64_t part, const Variable& x);
  Variable forward_stem(const Context& context, const Variable& input);
  Variable forward_stage(const Context& context, Stage& stage, Variable x);
  using VisitBlock = std::function<void(ConvBn&)>;
  void for_each_block(const VisitBlock& visit);
  void for_each_block_of_part(int64_t part, const VisitBlock& visit);
  void route_stages();
  void initialise(Backend& backend, uint64_t seed);

  ShuffleNetV2Config config_;
  ConvBnSequence stem_;  // published as conv1
  std::vector<std::unique_ptr<Stage>> stages_;
  ConvBnSequence head_;  // published as conv5
  std::unique_ptr<Linear> classifier_;
  int64_t frozen_parts_ = 0;
};

}  // namespace riffle
