// ShuffleNetV2: construction and forward pass.
#include "layers/shufflenet_v2.h"

#include <algorithm>

#include "layers/dropout.h"
#include "layers/initialise.h"
#include "layers/pooling.h"

namespace riffle {
namespace {

struct PublishedWidth {
  const char* name;
  std::vector<int64_t> stage_channels;
  int64_t head_channels;
};

const std::vector<PublishedWidth>& published_widths() {
  static const std::vector<PublishedWidth> widths{{"0.5x", {48, 96, 192}, 1024},
                                                  {"1.0x", {116, 232, 464}, 1024},
                                                  {"1.5x", {176, 352, 704}, 1024},
                                                  {"2.0x", {244, 488, 976}, 2048}};
  return widths;
}

constexpr uint64_t kHeadDropout = 0;  // number of the dropout layer, for its random stream

void check(const ShuffleNetV2Config& config) {
  RIFFLE_CHECK(config.stage_channels.size() == config.stage_repeats.size() && !config.stage_channels.empty(),
               config.stage_channels.size(), " stage widths for ", config.stage_repeats.size(), " stages");
  for (size_t i = 0; i < config.stage_channels.size(); ++i)
    RIFFLE_CHECK(config.stage_channels[i] > 0 && config.stage_channels[i] % 2 == 0 && config.stage_repeats[i] > 0,
                 "stage ", i + 2, " has ", config.stage_channels[i], " channels (must be even) and ",
                 config.stage_repeats[i], " units");
  RIFFLE_CHECK(config.stem_channels > 0 && config.head_channels > 0 && config.classes > 0, "no channels or classes");
  RIFFLE_CHECK(config.input_channels == 1 || config.input_channels == 3, config.input_channels, " input channels");
  RIFFLE_CHECK(config.stem_stride == 1 || config.stem_stride == 2, "stem stride ", config.stem_stride);
}

}  // namespace

ShuffleNetV2Config ShuffleNetV2Config::published(const std::string& width, Dialect dialect) {
  for (const PublishedWidth& known : published_widths()) {
    const std::string name = known.name;  // "1.0x" may be written "1.0", "1x" and "1" too
    const std::string number = name.substr(0, 3);
    const bool whole = number.substr(1) == ".0";
    if (width != name && width != number &&
        !(whole && (width == number.substr(0, 1) || width == number.substr(0, 1) + "x")))
      continue;
    ShuffleNetV2Config config;
    config.dialect = dialect;
    config.stage_channels = known.stage_channels;
    config.head_channels = known.head_channels;
    config.dropout = dialect == Dialect::kMegvii && name == "2.0x" ? 0.2 : 0.0;
    return config;
  }
  fail_usage("no published ShuffleNetV2 has width '", width, "'; use 0.5x, 1.0x, 1.5x or 2.0x");
}

std::string ShuffleNetV2Config::width_name() const {
  for (const PublishedWidth& known : published_widths())
    if (known.stage_channels == stage_channels && known.head_channels == head_channels && stem_channels == 24 &&
        stage_repeats == std::vector<int64_t>{4, 8, 4})
      return known.name;
  return "custom";
}

bool ShuffleNetV2Config::operator==(const ShuffleNetV2Config& other) const {
  return dialect == other.dialect && stage_channels == other.stage_channels && stage_repeats == other.stage_repeats &&
         stem_channels == other.stem_channels && head_channels == other.head_channels && classes == other.classes &&
         input_channels == other.input_channels && stem_stride == other.stem_stride &&
         stem_max_pool == other.stem_max_pool && dropout == other.dropout;
}

ShuffleNetV2::ShuffleNetV2(Backend& backend, const ShuffleNetV2Config& config, uint64_t seed,
                           ShuffleExecution execution)
    : config_(config) {
  check(config);
  stem_.append(
      backend,
      make_conv2d(backend, config.input_channels, config.stem_channels, 3, config.stem_stride, 1, config.dialect),
      true);
  add_module("conv1", stem_);
  int64_t channels = config.stem_channels;
  for (size_t s = 0; s < config.stage_channels.size(); ++s) {
    stages_.push_back(std::make_unique<Stage>());
    Stage& stage = *stages_.back();
    for (int64_t u = 0; u < config.stage_repeats[s]; ++u) {
      stage.units.push_back(
          std::make_unique<ShuffleUnit>(backend, channels, config.stage_channels[s], u == 0 ? 2 : 1, config.dialect));
      channels = config.stage_channels[s];
      stage.add_module(std::to_string(u), *stage.units.back());
    }
    add_module("stage" + std::to_string(s + 2), stage);
  }
  head_.append(backend, make_pointwise_conv2d(backend, channels, config.head_channels), true);
  add_module("conv5", head_);
  classifier_ =
      std::make_unique<Linear>(backend, config.head_channels, config.classes, config.dialect != Dialect::kMegvii);
  add_module(kClassifier, *classifier_);
  name_tree();
  if (execution == ShuffleExecution::kRouted) route_stages();
  initialise(backend, seed);
}

void ShuffleNetV2::route_stages() {
  Permutation order;  // of the channels between stages
  for (auto& stage : stages_) {
    stage->routed = std::make_unique<RoutedStage>(config_.dialect, stage->units, order);
    order = stage->routed->output_order();
  }
  head_.blocks().front()->conv().weight().order.c = order;
}

Variable ShuffleNetV2::forward(const Context& context, const Variable& input) {
  RIFFLE_CHECK(input.shape().c == config_.input_channels, "the network reads ", config_.input_channels,
               " channels, the input is ", input.shape());
  const Context inference{context.backend};
  const auto count = static_cast<int64_t>(parts().size());
  Variable x = input;
  for (int64_t part = 0; part < count; ++part) x = forward_part(part < frozen_parts_ ? inference : context, part, x);
  x = global_avg_pool(context, "globalpool", x);
  x = dropout(context, "dropout", x, config_.dropout, kHeadDropout);
  return classifier_->forward(context, x);
}

std::vector<std::string> ShuffleNetV2::parts() const {
  std::vector<std::string> names{"stem"};
  for (const auto& stage : stages_) names.push_back(stage->path());
  names.emplace_back("conv5");
  return names;
}

int64_t ShuffleNetV2::part_of(const std::string& parameter) const {
  std::vector<std::string> modules{stem_.path()};
  for (const auto& stage : stages_) modules.push_back(stage->path());
  modules.push_back(head_.path());
  const auto found = std::find(modules.begin(), modules.end(), parameter.substr(0, parameter.find('.')));
  return found - modules.begin();
}

Variable ShuffleNetV2::forward_part(const Context& context, int64_t part, const Variable& x) {
  const auto stages = static_cast<int64_t>(stages_.size());
  if (part == 0) return forward_stem(context, x);
  return part > stages ? head_.forward(context, x) : forward_stage(context, *stages_[static_cast<size_t>(part - 1)], x);
}

Variable ShuffleNetV2::forward_stage(const Context& context, Stage& stage, Variable x) {
  if (stage.routed) return stage.routed->forward(context, stage.path(), x);
  for (auto& unit : stage.units) x = unit->forward(context, x);
  return x;
}

Variable ShuffleNetV2::forward_stem(const Context& context, const Variable& input) {
  const ProfileRange range(context.backend, stem_.path());
  ConvBn& stem = *stem_.blocks().front();
  if (!config_.stem_max_pool) return stem.forward(context, input);
  const Shape shape = stem.conv().output_shape(input.shape());
  return stem.forward_max_pool(context, input, dialect_window(config_.dialect, 3, 2, shape.h, shape.w));
}

void ShuffleNetV2::for_each_block(const VisitBlock& visit) {
  for (size_t part = 0; part < stages_.size() + 2; ++part) for_each_block_of_part(static_cast<int64_t>(part), visit);
}

void ShuffleNetV2::for_each_block_of_part(int64_t part, const VisitBlock& visit) {
  const auto visit_all = [&](ConvBnSequence& sequence) {
    for (auto& block : sequence.blocks()) visit(*block);
  };
  if (part == 0) return visit_all(stem_);
  if (part > static_cast<int64_t>(stages_.size())) return visit_all(head_);
  for (auto& unit : stages_[static_cast<size_t>(part - 1)]->units) {
    if (unit->projection()) visit_all(*unit->projection());
    visit_all(unit->main());
  }
}

void ShuffleNetV2::freeze_parts(Backend& backend, int64_t count) {
  const auto all = static_cast<int64_t>(parts().size());
  RIFFLE_CHECK(count >= 0 && count <= all, "cannot freeze ", count, " of ", all, " parts");
  for (int64_t part = 0; part < all; ++part) {
    const bool frozen = part < count;
    for_each_block_of_part(part, [&](ConvBn& block) {
      for (Parameter* parameter : {&block.conv().weight(), &block.norm().weight(), &block.norm().bias()})
        parameter->freeze(backend, frozen);
      block.norm().freeze_statistics(frozen);
    });
  }
  frozen_parts_ = count;
}

void ShuffleNetV2::fold_batch_norm(Backend& backend) {
  for_each_block([&](ConvBn& block) { block.fold(backend); });
}

void ShuffleNetV2::initialise(Backend& backend, uint64_t seed) {
  uint64_t number = 0;
  for_each_block([&](ConvBn& block) {
    const bool first = &block == stem_.blocks().front().get();
    initialise_conv_bn(backend, config_.dialect, first, seed, number++, block);
  });
  initialise_linear(backend, config_.dialect, seed, number, *classifier_);
  values_changed(backend);
}

int64_t ShuffleNetV2::parameter_count() {
  int64_t count = 0;
  for_each_parameter([&](const std::string&, Parameter& parameter) { count += parameter.value.elements(); });
  return count;
}

}  // namespace riffle
