// The table of configuration fields: see config_fields.h. Each section is bound member by member, so that a member
// added to a struct of config.h and forgotten here does not compile.
#include "train/config_fields.h"

#include <algorithm>
#include <utility>

#include "train/config_transforms.h"
#include "train/config_values.h"

namespace riffle {
namespace {

// The first two are what a checkpoint may say (train/checkpoint/metadata.cpp), the third what --batch takes.
constexpr double kMaxChannels = 1 << 16, kMaxPixels = 1 << 14, kMaxBatch = 1 << 20;

Constraint anything() {
  return {};
}
Constraint at_least(double min) {
  Constraint constraint;
  constraint.min = min;
  return constraint;
}
Constraint above(double min) {
  Constraint constraint = at_least(min);
  constraint.min_included = false;
  return constraint;
}
// min <= x <= max
Constraint between(double min, double max) {
  Constraint constraint = at_least(min);
  constraint.max = max;
  return constraint;
}
// min < x <= max
Constraint above_up_to(double min, double max) {
  Constraint constraint = between(min, max);
  constraint.min_included = false;
  return constraint;
}
// min <= x < max
Constraint from_below(double min, double max) {
  Constraint constraint = between(min, max);
  constraint.max_included = false;
  return constraint;
}
Constraint either(std::vector<double> values) {
  Constraint constraint = between(1, -1);  // empty: only the values
  constraint.also = std::move(values);
  return constraint;
}
Constraint with(Constraint constraint, double value) {
  constraint.also.push_back(value);
  return constraint;
}
Constraint choice(std::vector<std::string> choices) {
  Constraint constraint;
  constraint.choices = std::move(choices);
  return constraint;
}

class SectionTable {
 public:
  SectionTable(std::string name, std::vector<Field>& fields) : name_(std::move(name)), fields_(fields) {}

  template <class T>
  void add(const char* key, T& value, Constraint constraint, const char* meaning) {
    fields_.push_back({name_ + "." + key, &value, std::move(constraint), meaning});
  }

 private:
  std::string name_;
  std::vector<Field>& fields_;
};

void add_model(ModelSection& section, std::vector<Field>& fields) {
  auto& [width, dialect, stage_channels, stage_repeats, stem_channels, head_channels, stem_stride, stem_max_pool,
         input_channels, classes, dropout] = section;
  SectionTable table("model", fields);
  table.add("width", width, choice({"0.5x", "1.0x", "1.5x", "2.0x", "custom"}),
            "A published width, or `custom` with `stage_channels` given.");
  table.add("dialect", dialect, choice({"torchvision", "megvii", "tensorpack"}),
            "Which published variant: they differ in stage entry, shuffle, padding and classifier, and their weights "
            "do not fit one another.");
  table.add("stage_channels", stage_channels, between(2, kMaxChannels),
            "Output channels of stages 2, 3 and 4, all even. Empty: those of the width.");
  table.add("stage_repeats", stage_repeats, between(1, 1 << 10),
            "Units of stages 2, 3 and 4, the stride-2 one included. Empty: 4, 8, 4.");
  table.add("stem_channels", stem_channels, between(1, kMaxChannels), "Output channels of the first convolution.");
  table.add("head_channels", head_channels, between(0, kMaxChannels),
            "Output channels of the last convolution (conv5). 0: those of the width (1024; 2048 for 2.0x).");
  table.add("stem_stride", stem_stride, either({1, 2}), "Stride of the first convolution; 1 for small images.");
  table.add("stem_max_pool", stem_max_pool, anything(),
            "Whether a 3x3 max-pool of stride 2 follows the first convolution; off for small images.");
  table.add("input_channels", input_channels, either({1, 3}), "Channels of an image: 1 (gray) or 3 (colour).");
  table.add("classes", classes, between(0, 1 << 20), "Outputs of the classifier. 0: as many as the data has classes.");
  table.add("dropout", dropout, with(from_below(0, 1), -1),
            "Dropout before the classifier. -1: as published (0.2 for megvii 2.0x, else 0).");
}

void add_data(DataSection& section, std::vector<Field>& fields) {
  auto& [source, train_split, val_split, class_names, loader_threads, prefetch, shuffle, shuffle_window, repeats,
         decode, max_bad_images, truncated, exif_orientation, val_labels, index_cache, cache_bytes] = section;
  const std::vector<std::string> splits{"train", "val", "test"};
  SectionTable table("data", fields);
  table.add("source", source, anything(),
            "Where the images are: `DIR` or `FILE.tar`, or with the kind: `folder:`, `tar:`, `pack:`, `idx:`, "
            "`cifar10:` (docs/data.md). A run needs it.");
  table.add("train_split", train_split, choice(splits), "The part to train on.");
  table.add("val_split", val_split, choice(splits), "The part to evaluate on. `test` is another word for `val`.");
  table.add("class_names", class_names, anything(),
            "Names of the classes, in order of their labels. Empty: the data's.");
  table.add("loader_threads", loader_threads, between(0, 1024),
            "Threads that decode and augment. 0: half as many as compute on the CPU. Changes no result.");
  table.add("prefetch", prefetch, between(1, 1024), "Batches prepared ahead. Changes no result.");
  table.add(
      "shuffle", shuffle, choice({"full", "shards"}),
      "The order of an epoch of training: `full`, a permutation of all images; or `shards`, for images in tar files "
      "that are slow to read at random (docs/data.md).");
  table.add("shuffle_window", shuffle_window, between(1, 1 << 16),
            "shards: how many tar files are read, and mixed, at a time.");
  table.add(
      "repeats", repeats, between(1, 1 << 10),
      "How often in a row an epoch shows a sample, each time augmented anew; it then shows so much fewer samples.");
  table.add("decode", decode, choice({"exact", "quick"}),
            "How training images are decoded: `exact`, whole; or `quick`, only what a crop needs, at the scale that it "
            "needs (docs/data.md). Evaluation is always exact.");
  table.add("max_bad_images", max_bad_images, at_least(0),
            "Unreadable images that an epoch of training skips, and names, before it gives up.");
  table.add("truncated", truncated, choice({"error", "accept"}),
            "Image files that end too early, in training and in its evaluations: `error`, they are unreadable; or "
            "`accept`, they are used as far as they go, and named once (docs/data.md).");
  table.add(
      "exif_orientation", exif_orientation, anything(),
      "Turn photographs upright as their EXIF data says, in training, evaluation and prediction. Off for ImageNet, "
      "by convention; on for photographs from phones.");
  table.add("val_labels", val_labels, anything(),
            "A file with the labels of validation images that lie without class folders (docs/data.md says which "
            "kinds). Empty: one of a known name beside the images.");
  table.add("index_cache", index_cache, anything(),
            "A folder that keeps lists of images, so that a large set opens quickly the second time. `auto`: "
            "`$XDG_CACHE_HOME/riffle` or `~/.cache/riffle`. Empty: none.");
  table.add("cache_bytes", cache_bytes, anything(),
            "Memory for image files, as they are on the disk, such as `8GiB`; the training and the validation images "
            "share it. 0: none.");
}

void add_normalisation(NormalisationSection& section, std::vector<Field>& fields) {
  auto& [scale, mean, std, channel_order] = section;
  SectionTable table("normalisation", fields);
  table.add("scale", scale, above(0),
            "The network reads `(pixel * scale - mean) / std`, pixels being 0 to 255. The default is 1/255.");
  table.add("mean", mean, anything(), "One value per input channel, in `channel_order`.");
  table.add("std", std, above(0), "One value per input channel, in `channel_order`.");
  table.add("channel_order", channel_order, choice({"rgb", "bgr"}), "The order in which the network reads colours.");
}

void add_augment(AugmentSection& section, std::vector<Field>& fields) {
  auto& [size, sizes, transforms, mixup, cutmix] = section;
  SectionTable table("augment", fields);
  table.add("size", size, between(1, kMaxPixels), "Height and width of a training image, in pixels.");
  table.add("sizes", sizes, between(1, kMaxPixels),
            "Later sizes, in order, each from the beginning of an epoch on: `[{from: 30ep, size: 192}]`.");
  table.add("transforms", transforms, anything(), "What is done to a training image, in this order.");
  table.add("mixup", mixup, at_least(0),
            "Mixup of each batch, with shares from Beta(mixup, mixup). 0: off (docs/augmentation.md).");
  table.add("cutmix", cutmix, at_least(0),
            "CutMix likewise, with areas from Beta(cutmix, cutmix). Of both, each batch takes one at random.");
}

void add_eval(EvalSection& section, std::vector<Field>& fields) {
  auto& [resize, crop, interpolation, rounding, crop_offset, batch, every_epochs, max_bad_images] = section;
  SectionTable table("eval", fields);
  table.add("resize", resize, between(0, kMaxPixels),
            "Length of the short edge after resizing, in pixels. 0: no resizing.");
  table.add("crop", crop, between(1, kMaxPixels), "Height and width of the centre crop, in pixels.");
  table.add("interpolation", interpolation, choice(interpolation_names()),
            "Whose resizing, with which filter: Pillow's (antialiased) or OpenCV's (not).");
  table.add("rounding", rounding, choice(rounding_names()),
            "Of the long edge after resizing: `truncate` (torchvision) or `half-up` (Megvii, tensorpack).");
  table.add("crop_offset", crop_offset, choice(crop_offset_names()),
            "Of half the margin that the crop leaves: `half-to-even` (torchvision, Megvii) or `floor` (tensorpack).");
  table.add("batch", batch, between(0, kMaxBatch), "Images a forward pass. 0: `train.batch`. Changes no result.");
  table.add("every_epochs", every_epochs, at_least(1), "Evaluate every so many epochs, and after the last.");
  table.add("max_bad_images", max_bad_images, at_least(0),
            "Unreadable images that an evaluation during training counts as wrong, and names, before it gives up. "
            "`riffle eval` has `--allow-bad` for it.");
}

void add_optimizer(OptimizerSection& section, std::vector<Field>& fields) {
  auto& [momentum, nesterov, weight_decay, clip_norm, accumulate, lr_multipliers] = section;
  SectionTable table("optimizer", fields);
  table.add("momentum", momentum, from_below(0, 1), "SGD: `v = momentum * v + g; w -= lr * v`.");
  table.add("nesterov", nesterov, anything(), "Nesterov's update, `w -= lr * (g + momentum * v)`.");
  table.add("weight_decay", weight_decay, at_least(0),
            "Added to the gradient as `weight_decay * w`, for filters and matrices; never for batch norm and biases.");
  table.add("clip_norm", clip_norm, at_least(0), "Largest norm of the whole gradient. 0: no clipping.");
  table.add("accumulate", accumulate, at_least(1),
            "Batches whose gradients are averaged into one step; a step sees `train.batch * accumulate` images.");
  table.add("lr_multipliers", lr_multipliers, at_least(0),
            "By which the schedule's rate is multiplied for parameters whose name matches a pattern with `*` and `?`, "
            "such as `{pattern: \"fc.*\", multiplier: 10}`; the first that matches counts.");
}

void add_schedule(ScheduleSection& section, std::vector<Field>& fields) {
  auto& [kind, lr, final_lr, warmup, warmup_factor, milestones, gamma, power, reference_batch, batch_rule] = section;
  SectionTable table("schedule", fields);
  table.add("kind", kind, choice({"linear", "cosine", "step", "polynomial", "constant"}),
            "How the learning rate falls after the warm-up, by the formulas above.");
  table.add("lr", lr, above(0), "Peak learning rate, for steps of `reference_batch` images.");
  table.add("final_lr", final_lr, at_least(0), "linear, cosine, polynomial: what the rate falls to.");
  table.add("warmup", warmup, anything(), "Length of the linear warm-up from `lr * warmup_factor` to `lr`.");
  table.add("warmup_factor", warmup_factor, between(0, 1), "Where the warm-up starts, as a part of `lr`.");
  table.add("milestones", milestones, above(0),
            "step: when the rate is multiplied by `gamma`, counted from the start.");
  table.add("gamma", gamma, above_up_to(0, 1), "step: the factor at each milestone.");
  table.add("power", power, above(0), "polynomial: the exponent.");
  table.add("reference_batch", reference_batch, between(0, kMaxBatch),
            "The images a step that `lr` and `final_lr` are for; with `train.batch * accumulate` others, the rates are "
            "scaled by `batch_rule`. 0: they are for the batch in use.");
  table.add("batch_rule", batch_rule, choice({"linear", "sqrt", "none"}),
            "How rates follow the batch: by the ratio of the two batches, by its square root, or not at all.");
}

void add_ema(EmaSection& section, std::vector<Field>& fields) {
  auto& [decay, warmup, every] = section;
  SectionTable table("ema", fields);
  table.add("decay", decay, from_below(0, 1),
            "Exponential moving average of the weights, evaluated and saved beside them. 0: off.");
  table.add("warmup", warmup, anything(),
            "Begin with a smaller decay: update `t` has `min(decay, (1 + t) / (10 + t))`, so that a short run is not "
            "dominated by its first weights.");
  table.add("every", every, at_least(1), "Update the average every so many steps.");
}

void add_init(InitSection& section, std::vector<Field>& fields) {
  auto& [checkpoint, weights, reset_head] = section;
  SectionTable table("init", fields);
  table.add("checkpoint", checkpoint, anything(),
            "A Riffle checkpoint whose weights the network begins with, as `--init`. Empty: random weights.");
  table.add("weights", weights, choice({"", "raw", "ema"}),
            "Those as trained, or their moving averages. Empty: what the checkpoint holds under the network's names.");
  table.add("reset_head", reset_head, anything(),
            "Begin with a new classifier, as `--reset-head`: for other classes than the checkpoint's.");
}

void add_finetune(FinetuneSection& section, std::vector<Field>& fields) {
  auto& [freeze, head_only] = section;
  SectionTable table("finetune", fields);
  table.add("freeze", freeze, choice({"stem", "stage2", "stage3", "stage4", "conv5"}),
            "Parts that do not train, from the stem on: `[stem]`, `[stem, stage2]`, ... Their batch norms use the "
            "running statistics and keep them.");
  table.add("head_only", head_only, anything(),
            "How long only the classifier trains at first, everything before it being frozen; then all but `freeze`.");
}

void add_train(TrainSection& section, std::vector<Field>& fields) {
  auto& [duration, batch, label_smoothing, seed, log_every_steps, precision, deterministic, cuda_graphs, nonfinite,
         max_skipped_steps, overfit_batches, limit_steps] = section;
  SectionTable table("train", fields);
  table.add("duration", duration, above(0), "Length of the run.");
  table.add("batch", batch, between(1, kMaxBatch), "Images a forward and backward pass, in all.");
  table.add("label_smoothing", label_smoothing, from_below(0, 1),
            "The part of the target probability that is spread over all classes.");
  table.add("seed", seed, anything(),
            "Of initialisation, order, augmentation and dropout: the same seed, the same run.");
  table.add("log_every_steps", log_every_steps, at_least(1), "Steps between two progress lines.");
  table.add(
      "precision", precision, choice({"fp32", "tf32", "bf16", "fp16"}),
      "What the network computes in. tf32: fp32 whose matrix products round their inputs. bf16, fp16: activations of "
      "that type; parameters, sums and batch norm stay in fp32, and fp16 scales the loss. tf32 and fp16 need a GPU; on "
      "a CPU, which must have AVX512-BF16, bf16 rounds the inputs of matrix products only.");
  table.add("deterministic", deterministic, anything(),
            "On a GPU: the same bits in every run, perhaps slower. The CPU always gives the same bits.");
  table.add("cuda_graphs", cuda_graphs, anything(),
            "On a GPU: record a step once and replay it, which saves the time of launching its kernels. Changes no "
            "result.");
  table.add("nonfinite", nonfinite, choice({"stop", "skip"}),
            "What happens when a gradient is NaN or infinite: `stop` names the first layer and saves the batch; `skip` "
            "leaves everything as it was before the step and goes on (docs/training.md).");
  table.add("max_skipped_steps", max_skipped_steps, at_least(0),
            "With `nonfinite: skip`: how many steps a run may skip before it stops.");
  table.add("overfit_batches", overfit_batches, at_least(0),
            "For debugging: train on the first so many batches only, over and over, augmented the same each time. 0: "
            "off.");
  table.add("limit_steps", limit_steps, at_least(0),
            "For debugging: stop after so many steps; the schedule stays that of the whole run. 0: off.");
}

void add_early_stopping(EarlyStoppingSection& section, std::vector<Field>& fields) {
  auto& [patience, min_delta] = section;
  SectionTable table("early_stopping", fields);
  table.add("patience", patience, at_least(0),
            "Stop after so many evaluations in a row without a better top-1. 0: never.");
  table.add("min_delta", min_delta, between(0, 100), "How many percentage points of top-1 count as better.");
}

void add_log(LogSection& section, std::vector<Field>& fields) {
  auto& [tensorboard, histograms] = section;
  SectionTable table("log", fields);
  table.add("tensorboard", tensorboard, anything(), "Write an event file for TensorBoard into the run folder.");
  table.add("histograms", histograms, choice({"evaluations", "none"}),
            "When the event file gets histograms of weights and gradients.");
}

void add_recalibrate(RecalibrateSection& section, std::vector<Field>& fields) {
  auto& [duration] = section;
  SectionTable table("recalibrate", fields);
  table.add("duration", duration, anything(),
            "For how long, after training, batch norm's statistics are estimated anew, without any update of the "
            "weights. 0: not at all.");
}

void add_checkpoint(CheckpointSection& section, std::vector<Field>& fields) {
  auto& [every, keep, keep_every] = section;
  SectionTable table("checkpoint", fields);
  table.add("every", every, anything(),
            "How often all that training goes on from is saved. 0: only at the end, and when a signal stops the run.");
  table.add("keep", keep, at_least(1), "How many of the newest checkpoints stay; 2 or more survive a damaged one.");
  table.add("keep_every", keep_every, anything(),
            "Checkpoints at multiples of this stay for good; a multiple of `every`. 0: none.");
}

std::string joined(const std::vector<std::string>& parts, const char* separator) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : separator) + part;
  return out;
}

template <class T>
std::string text_of(const T& value) {
  return value_text(value);
}

template <class T>
std::string text_of(const std::vector<T>& values) {
  std::vector<std::string> parts;
  parts.reserve(values.size());
  for (const T& value : values) parts.push_back(value_text(value));
  return "[" + joined(parts, ", ") + "]";
}

template <class T>
std::string type_text(const T& value) {
  return kind_of(value).one;
}

template <class T>
std::string type_text(const std::vector<T>&) {
  return std::string("a list of ") + kind_of(T{}).many;
}

}  // namespace

bool Constraint::admits(double value) const {
  if (std::find(also.begin(), also.end(), value) != also.end()) return true;
  return (min_included ? value >= min : value > min) && (max_included ? value <= max : value < max);
}

bool Constraint::admits(const std::string& value) const {
  return choices.empty() || std::find(choices.begin(), choices.end(), value) != choices.end();
}

std::string Constraint::text() const {
  if (!choices.empty()) {
    std::vector<std::string> shown;
    for (const std::string& choice : choices) shown.push_back(choice.empty() ? "\"\"" : choice);
    return "one of " + joined(shown, ", ");
  }
  std::vector<std::string> values, bounds;
  for (double value : also) values.push_back(value_text(value));
  if (min > max) return joined(values, " or ");
  const double infinity = std::numeric_limits<double>::infinity();
  if (min > -infinity) bounds.push_back((min_included ? ">= " : "> ") + value_text(min));
  if (max < infinity) bounds.push_back((max_included ? "<= " : "< ") + value_text(max));
  const std::string interval = joined(bounds, " and ");
  return values.empty() ? interval : joined(values, " or ") + ", or " + interval;
}

std::string Field::accepted() const {
  const bool is_list =
      std::visit([](const auto* pointer) { return type_text(*pointer).rfind("a list", 0) == 0; }, value);
  if (!constraint.choices.empty()) return (is_list ? "a list, each " : "") + constraint.text();
  std::string type = std::visit([](const auto* pointer) { return type_text(*pointer); }, value);
  const std::string limits = constraint.text();
  if (limits.empty()) return type;
  return type + (constraint.also.empty() ? " " : ": ") + limits;
}

std::string Field::value_text() const {
  return std::visit([](const auto* pointer) { return text_of(*pointer); }, value);
}

std::vector<Field> fields_of(Config& config) {
  auto& [model, data, normalisation, augment, eval, optimizer, schedule, ema, init, finetune, train, early_stopping,
         log, recalibrate, checkpoint] = config;
  std::vector<Field> fields;
  add_model(model, fields);
  add_data(data, fields);
  add_normalisation(normalisation, fields);
  add_augment(augment, fields);
  add_eval(eval, fields);
  add_optimizer(optimizer, fields);
  add_schedule(schedule, fields);
  add_ema(ema, fields);
  add_init(init, fields);
  add_finetune(finetune, fields);
  add_train(train, fields);
  add_early_stopping(early_stopping, fields);
  add_log(log, fields);
  add_recalibrate(recalibrate, fields);
  add_checkpoint(checkpoint, fields);
  return fields;
}

std::string section_of(const std::string& path) {
  return path.substr(0, path.find('.'));
}

std::string leaf_of(const std::string& path) {
  const size_t dot = path.rfind('.');
  return dot == std::string::npos ? path : path.substr(dot + 1);
}

std::vector<std::string> sections_of(const std::vector<Field>& fields) {
  std::vector<std::string> sections;
  for (const Field& field : fields) {
    const std::string section = section_of(field.path);
    if (sections.empty() || sections.back() != section) sections.push_back(section);
  }
  return sections;
}

}  // namespace riffle
