// ShuffleNetV2::layer_table: names, shapes, parameters and multiply-accumulates, without running anything.
#include "layers/shufflenet_v2.h"

namespace riffle {
namespace {

// Appends the rows of a sequence and returns its output shape.
Shape append_rows(const ConvBnSequence& sequence, Shape shape, std::vector<LayerRow>& rows) {
  for (const auto& block : sequence.blocks()) {
    const Convolution& conv = block->conv();
    shape = conv.output_shape(shape);
    rows.push_back({conv.path(), conv.kind() + (block->relu() ? " + BN + ReLU" : " + BN"), shape,
                    conv.weight().value.elements() + 2 * conv.outputs(), shape.elements() * conv.inputs_per_output()});
  }
  return shape;
}

}  // namespace

std::vector<LayerRow> ShuffleNetV2::layer_table(int64_t height, int64_t width) const {
  std::vector<LayerRow> rows;
  Shape shape = append_rows(stem_, {1, height, width, config_.input_channels}, rows);
  if (config_.stem_max_pool) {
    const Window window = dialect_window(config_.dialect, 3, 2, shape.h, shape.w);
    shape = {1, window.out_h(shape.h), window.out_w(shape.w), shape.c};
    rows.push_back({"maxpool", "max-pool 3x3 /2", shape, 0, 0});
  }
  for (const auto& stage : stages_) {
    for (const auto& unit : stage->units) {
      Shape out = shape;
      if (unit->projection()) append_rows(*unit->projection(), shape, rows);
      const Shape main_input = unit->projection() ? shape : shape.with_channels(shape.c / 2);
      out = append_rows(unit->main(), main_input, rows);
      const size_t index = static_cast<size_t>(&stage - stages_.data());
      shape = out.with_channels(config_.stage_channels[index]);
    }
  }
  shape = append_rows(head_, shape, rows);
  rows.push_back({"globalpool", "average-pool", {1, 1, 1, shape.c}, 0, 0});
  const int64_t weights = classifier_->weight().value.elements();
  rows.push_back({classifier_->path(),
                  "linear",
                  {1, 1, 1, config_.classes},
                  weights + (classifier_->bias() ? config_.classes : 0),
                  weights});
  return rows;
}

}  // namespace riffle
