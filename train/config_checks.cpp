// Rules that span fields: see config_checks.h.
#include "train/config_checks.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/check.h"
#include "train/config_transforms.h"
#include "train/config_values.h"
#include "train/text.h"

namespace riffle {
namespace {

void check_stages(const Config& config, const ConfigSources& sources) {
  const ModelSection& model = config.model;
  if (model.width == "custom" && model.stage_channels.empty()) {
    fail_usage(sources.of({"model.width"}),
               ": model.width is custom, but model.stage_channels is not set; expected the ",
               "output channels of three stages, such as [48, 96, 192]");
  }
  const std::string where = sources.of({"model.stage_channels"});
  if (!model.stage_channels.empty() && model.stage_channels.size() != 3) {
    fail_usage(where, ": model.stage_channels has ", model.stage_channels.size(), " values; expected 3, such as ",
               "[48, 96, 192]");
  }
  for (int64_t channels : model.stage_channels) {
    if (channels % 2 != 0) {
      fail_usage(where, ": model.stage_channels has ", channels, "; expected even numbers, for each unit splits its ",
                 "channels into halves");
    }
  }
  if (!model.stage_repeats.empty() && model.stage_repeats.size() != 3) {
    fail_usage(sources.of({"model.stage_repeats"}), ": model.stage_repeats has ", model.stage_repeats.size(),
               " values; expected 3, such as [4, 8, 4]");
  }
}

// Outside the torchvision dialect a stage's first unit keeps its input channels and computes only those beyond them.
void check_stage_growth(const Config& config, const ConfigSources& sources) {
  if (config.model.dialect == "torchvision") return;
  const ShuffleNetV2Config network = config.network(1);
  int64_t previous = network.stem_channels;
  for (int64_t channels : network.stage_channels) {
    if (channels <= previous) {
      fail_usage(sources.of({"model.stage_channels", "model.stem_channels", "model.width"}), ": a stage of ", channels,
                 " channels follows ", previous, " channels; in the ", config.model.dialect,
                 " dialect each stage must have more channels than the one before (the first, more than ",
                 "model.stem_channels)");
    }
    previous = channels;
  }
}

void check_class_names(const Config& config, const ConfigSources& sources) {
  const std::vector<std::string>& names = config.data.class_names;
  const std::string where = sources.of({"data.class_names"});
  std::set<std::string> seen;
  for (const std::string& name : names) {
    if (name.empty()) fail_usage(where, ": data.class_names has an empty name");
    if (!seen.insert(name).second) fail_usage(where, ": data.class_names has '", name, "' twice");
  }
  const auto count = static_cast<int64_t>(names.size());
  if (count > 0 && config.model.classes > 0 && count != config.model.classes) {
    fail_usage(sources.of({"model.classes"}), ": model.classes is ", config.model.classes,
               ", but data.class_names has ", count, " names; expected as many, or model.classes 0");
  }
}

void check_cache_bytes(const Config& config, const ConfigSources& sources) {
  try {
    parse_bytes(config.data.cache_bytes);
  } catch (const Error& error) {
    fail_usage(sources.of({"data.cache_bytes"}), ": data.cache_bytes: ", error.what());
  }
}

void check_per_channel(const Config& config, const ConfigSources& sources, const char* path, size_t count) {
  const auto channels = static_cast<size_t>(config.model.input_channels);
  if (count == channels) return;
  fail_usage(sources.of({path, "model.input_channels"}), ": ", path, " has ", count, count == 1 ? " value" : " values",
             ", but model.input_channels is ", channels, "; expected one value for each channel");
}

void check_normalisation(const Config& config, const ConfigSources& sources) {
  check_per_channel(config, sources, "normalisation.mean", config.normalisation.mean.size());
  check_per_channel(config, sources, "normalisation.std", config.normalisation.std.size());
  if (config.normalisation.channel_order == "bgr" && config.model.input_channels == 1) {
    fail_usage(sources.of({"normalisation.channel_order"}), ": normalisation.channel_order is bgr, but ",
               "model.input_channels is 1; one channel has no order, expected rgb");
  }
}

void check_images(const Config& config, const ConfigSources& sources) {
  const EvalSection& eval = config.eval;
  if (eval.resize != 0 && eval.resize < eval.crop) {
    fail_usage(sources.of({"eval.resize", "eval.crop"}), ": eval.resize is ", eval.resize, ", less than eval.crop, ",
               eval.crop, "; the crop would have black borders; expected at least ", eval.crop, ", or 0");
  }
}

void check_optimizer(const Config& config, const ConfigSources& sources) {
  if (config.optimizer.nesterov && config.optimizer.momentum == 0) {
    fail_usage(sources.of({"optimizer.momentum"}), ": optimizer.nesterov is true, but optimizer.momentum is 0; ",
               "expected a momentum such as 0.9");
  }
}

// Frozen parts run without a tape, as inference. What follows a trained part cannot: gradients pass through it.
void check_finetune(const Config& config, const ConfigSources& sources) {
  const std::vector<std::string> parts{"stem", "stage2", "stage3", "stage4", "conv5"};
  const std::vector<std::string>& freeze = config.finetune.freeze;
  const std::string where = sources.of({"finetune.freeze"});
  for (size_t i = 0; i < freeze.size(); ++i) {
    if (std::count(freeze.begin(), freeze.end(), freeze[i]) > 1)
      fail_usage(where, ": finetune.freeze has ", freeze[i], " twice");
    const auto last = std::find(parts.begin(), parts.end(), freeze[i]);
    for (auto part = parts.begin(); part != last; ++part) {
      if (std::find(freeze.begin(), freeze.end(), *part) != freeze.end()) continue;
      fail_usage(where, ": finetune.freeze has ", freeze[i], ", but not ", *part, ", which comes before it; expected ",
                 "the first parts of stem, stage2, stage3, stage4, conv5: to train ", *part,
                 ", gradients must pass through all that follows");
    }
  }
  if (freeze.size() == parts.size() && config.finetune.head_only.value > 0) {
    fail_usage(sources.of({"finetune.head_only", "finetune.freeze"}), ": finetune.head_only is ",
               config.finetune.head_only.text(), ", but finetune.freeze has all parts, so that only the classifier ",
               "ever trains; expected one of the two");
  }
}

// A setting that nothing reads is a mistake that nobody notices, so it is an error; its default is none, for resolved
// configurations spell every default out.
template <class Value>
void check_is_default(const ConfigSources& sources, const char* path, const Value& value, const Value& by_default,
                      const std::string& why_unused) {
  if (value == by_default) return;
  fail_usage(sources.of({path}), ": ", path, " is ", value_text(value), ", but ", why_unused,
             "; expected its default, ", value_text(by_default));
}

void check_unused_resizing(const Config& config, const ConfigSources& sources) {
  const EvalSection &eval = config.eval, defaults;
  if (eval.resize != 0) return;
  const std::string why_unused = "eval.resize is 0: images are not resized";
  check_is_default(sources, "eval.interpolation", eval.interpolation, defaults.interpolation, why_unused);
  check_is_default(sources, "eval.rounding", eval.rounding, defaults.rounding, why_unused);
  check_is_default(sources, "eval.crop_offset", eval.crop_offset, defaults.crop_offset, why_unused);
}

void check_unused_schedule(const Config& config, const ConfigSources& sources) {
  const ScheduleSection &schedule = config.schedule, defaults;
  const std::string why_unused = "schedule.kind is " + schedule.kind + ", which does not use it";
  if (schedule.kind != "step") {
    check_is_default(sources, "schedule.gamma", schedule.gamma, defaults.gamma, why_unused);
  }
  if (schedule.kind != "polynomial") {
    check_is_default(sources, "schedule.power", schedule.power, defaults.power, why_unused);
  }
  if (schedule.reference_batch == 0) {
    check_is_default(sources, "schedule.batch_rule", schedule.batch_rule, defaults.batch_rule,
                     "schedule.reference_batch is 0: rates are for the batch in use");
  }
  if (schedule.warmup.value == 0) {
    check_is_default(sources, "schedule.warmup_factor", schedule.warmup_factor, defaults.warmup_factor,
                     "schedule.warmup is 0: there is no warm-up");
  }
}

void check_schedule(const Config& config, const ConfigSources& sources) {
  const ScheduleSection& schedule = config.schedule;
  if (schedule.kind == "step" && schedule.milestones.empty()) {
    fail_usage(sources.of({"schedule.kind"}), ": schedule.kind is step, but schedule.milestones is empty; expected ",
               "when to lower the rate, such as [80ep, 120ep]");
  }
  if (schedule.kind != "step" && !schedule.milestones.empty()) {
    fail_usage(sources.of({"schedule.milestones"}), ": schedule.milestones is set, but schedule.kind is ",
               schedule.kind, "; only step has milestones");
  }
  if (schedule.final_lr > 0 && (schedule.kind == "step" || schedule.kind == "constant")) {
    fail_usage(sources.of({"schedule.final_lr"}), ": schedule.final_lr is set, but schedule.kind is ", schedule.kind,
               "; only linear, cosine and polynomial fall to a final rate");
  }
  if (schedule.final_lr > schedule.lr) {
    fail_usage(sources.of({"schedule.final_lr", "schedule.lr"}), ": schedule.final_lr is ",
               value_text(schedule.final_lr), "; expected at most schedule.lr, ", value_text(schedule.lr));
  }
}

}  // namespace

ConfigSources::ConfigSources(std::string file_name) : file_name_(std::move(file_name)) {}

void ConfigSources::set(const std::string& path, const std::string& where) {
  where_[path] = where;
}

std::string ConfigSources::of(std::initializer_list<const char*> paths) const {
  for (const char* path : paths) {
    const auto found = where_.find(path);
    if (found != where_.end()) return found->second;
  }
  return file_name_;
}

void check_config(const Config& config, const ConfigSources& sources) {
  check_stages(config, sources);
  check_stage_growth(config, sources);
  check_class_names(config, sources);
  check_cache_bytes(config, sources);
  check_normalisation(config, sources);
  check_images(config, sources);
  check_optimizer(config, sources);
  check_schedule(config, sources);
  check_finetune(config, sources);
  check_transforms(config, sources);
  check_unused_resizing(config, sources);
  check_unused_schedule(config, sources);
}

}  // namespace riffle
