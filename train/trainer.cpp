// The training loop.
#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "train/bad_images.h"
#include "train/config_reader.h"
#include "train/process_memory.h"
#include "train/text.h"
#include "train/version.h"

namespace riffle {
namespace {

EvaluatorOptions evaluator_options(const Config& config, int threads) {
  EvaluatorOptions options;
  options.transform = config.eval_transform();
  options.normalisation = config.network_input();
  options.batch = config.eval.batch > 0 ? config.eval.batch : config.train.batch;
  options.loader_threads = threads;
  options.prefetch = config.data.prefetch;
  options.max_bad_images = config.eval.max_bad_images;
  return options;
}

TrainStepOptions train_step_options(const Config& config, int64_t steps_per_epoch, int64_t head_only_steps) {
  TrainStepOptions options;
  options.optimizer = config.optimizer;
  options.label_smoothing = config.train.label_smoothing;
  options.ema_decay = config.ema.decay;
  options.ema_warmup = config.ema.warmup;
  options.ema_every = config.ema.every;
  options.nonfinite = config.train.nonfinite == "skip" ? NonFinite::kSkip : NonFinite::kStop;
  options.seed = config.train.seed;
  options.batch = config.train.batch;
  options.frozen_parts = config.frozen_parts();
  options.head_only_steps = head_only_steps;
  options.scale_loss = config.train.precision == "fp16";
  options.cuda_graphs = config.train.cuda_graphs;
  options.steps_between_reads =
      std::min<int64_t>(config.train.log_every_steps, steps_per_epoch);  // read at its end, too
  return options;
}

// The network computes on the same processors, so decoding gets half of them unless the configuration says otherwise.
int loader_threads(const Config& config, int cpu_threads) {
  return config.data.loader_threads > 0 ? config.data.loader_threads : std::max(1, cpu_threads / 2);
}

int64_t count_steps_per_epoch(const Loader& loader, int accumulate) {
  const int64_t batches = loader.batches_per_epoch();
  if (batches < accumulate) {
    fail_usage("optimizer.accumulate is ", accumulate, ", but the training data has only ", batches,
               batches == 1 ? " batch" : " batches", " an epoch; lower it or train.batch");
  }
  return batches / accumulate;
}

// Batches of an epoch that are used.
int64_t count_epoch_batches(const Config& config, int64_t steps_per_epoch) {
  const int64_t batches = steps_per_epoch * config.optimizer.accumulate, wanted = config.train.overfit_batches;
  if (wanted > batches) {
    fail_usage("train.overfit_batches is ", wanted, ", but an epoch has only ", batches,
               batches == 1 ? " batch" : " batches");
  }
  return wanted > 0 ? wanted : batches;
}

int64_t count_total_steps(const Duration& duration, int64_t steps_per_epoch) {
  const int64_t steps = duration.steps(steps_per_epoch);
  if (steps < 1) {
    fail_usage("train.duration is ", duration.text(), ", which is no step at all; an epoch has ", steps_per_epoch,
               " steps");
  }
  return steps;
}

int64_t count_head_only_steps(const Duration& duration, int64_t steps_per_epoch, int64_t total_steps) {
  const int64_t steps = duration.steps(steps_per_epoch);
  if (steps >= total_steps) {
    fail_usage("finetune.head_only is ", duration.text(), ", ", steps, steps == 1 ? " step" : " steps",
               ", and the whole run has ", total_steps,
               ", so that only the classifier would ever train; shorten it, or ",
               "say so: finetune.freeze=[stem, stage2, stage3, stage4, conv5]");
  }
  return steps;
}

CheckpointMetadata make_metadata(const Config& config, const ShuffleNetV2& network,
                                 const std::vector<std::string>& classes) {
  CheckpointMetadata metadata;
  metadata.model = network.config();
  metadata.classes = classes;
  metadata.preprocessing = config.eval_transform();
  metadata.normalisation = config.network_input();
  metadata.config_yaml = to_yaml(config);
  metadata.riffle_version = kVersion;
  to_json(metadata);  // throws now what would otherwise end the run at its first checkpoint
  return metadata;
}

}  // namespace

int64_t count_evaluations(int64_t epoch, int64_t epochs, int64_t every_epochs) {
  return epochs / every_epochs - (epoch - 1) / every_epochs + (epochs % every_epochs != 0 ? 1 : 0);
}

Trainer::Trainer(Backend& backend, const Config& config, const TrainData& data, int cpu_threads, Progress& progress,
                 const InitialWeights* initial)
    : backend_(backend),
      config_(config),
      data_(data),
      progress_(progress),
      network_(backend, config.network(static_cast<int64_t>(data.train->classes().size())), config.train.seed),
      weights_note_(initial ? load_initial_weights(backend, *initial, config.init.reset_head, data.classes, network_)
                            : ""),
      averaged_(config.ema.decay > 0 ? std::make_unique<ShuffleNetV2>(backend, network_.config(), config.train.seed)
                                     : nullptr),
      loader_(*data.train, train_loader_options(config, loader_threads(config, cpu_threads))),
      truncated_train_(*data.train),
      truncated_val_(*data.val),
      steps_per_epoch_(count_steps_per_epoch(loader_, config.optimizer.accumulate)),
      total_steps_(count_total_steps(config.train.duration, steps_per_epoch_)),
      last_step_(config.train.limit_steps > 0 ? std::min(config.train.limit_steps, total_steps_) : total_steps_),
      head_only_steps_(count_head_only_steps(config.finetune.head_only, steps_per_epoch_, total_steps_)),
      learning_rate_(scaled_schedule(config), total_steps_, steps_per_epoch_),
      train_step_(backend, network_, train_step_options(config, steps_per_epoch_, head_only_steps_)),
      input_(backend, config.network_input(),
             {config.train.batch, config.augment.size, config.augment.size, config.model.input_channels},
             config.train.precision == "fp16" ? config.optimizer.accumulate : 1),  // a step may be computed again
      evaluator_(backend, *data.val, data.val_labels.to_network,
                 evaluator_options(config, loader_threads(config, cpu_threads))),
      metadata_(make_metadata(config, network_, data.classes)) {
  loader_.set_length(count_epoch_batches(config, steps_per_epoch_), last_step_ * config.optimizer.accumulate);
}

std::vector<std::string> Trainer::plan() const {
  const int64_t size = config_.eval.crop;
  int64_t parameters = 0, macs = 0;
  for (const LayerRow& row : network_.layer_table(size, size)) {
    parameters += row.parameters;
    macs += row.macs;
  }
  const ShuffleNetV2Config& model = network_.config();
  std::vector<std::string> lines{
      join("network     ShuffleNetV2 ", model.width_name(), " (", name_of(model.dialect), "), ", model.classes,
           " classes: ", format_count(parameters), " parameters, ", format_fixed(static_cast<double>(macs) * 1e-6, 1),
           " M multiply-adds at ", size, "x", size),
      join("training    ", data_.train->description()), join("validation  ", data_.val->description())};
  if (!data_.val_labels.identity()) lines.push_back("            " + data_.val_labels.note);
  lines.push_back(join("duration    ", config_.train.duration.text(), ": ", format_count(total_steps_), " steps of ",
                       images_per_step(), " images, ", format_count(steps_per_epoch_), " an epoch"));
  lines.push_back("schedule    " + config_.schedule.kind + ", " + describe_batch_rule(config_));
  for (const ImageSizeChange& change : config_.augment.sizes)
    lines.push_back(
        join("image size  ", change.size, " after ", change.from.text(), " (", config_.augment.size, " at first)"));
  if (config_.train.overfit_batches > 0)
    lines.push_back(join("debugging   the first ", format_count(config_.train.overfit_batches), " of an epoch's ",
                         format_count(steps_per_epoch_ * config_.optimizer.accumulate),
                         " batches, over and over (train.overfit_batches)"));
  if (last_step_ < total_steps_)
    lines.push_back(join("debugging   stops after step ", format_count(last_step_), " (train.limit_steps)"));
  if (recalibration_batches() > 0)
    lines.push_back(
        join("at the end  ", format_count(recalibration_batches()), " batches for batch norm's statistics"));
  if (!weights_note_.empty()) lines.push_back("weights     " + weights_note_);
  for (const std::string& line : describe_groups()) lines.push_back(line);
  for (const std::string& warning : learning_rate_.warnings()) lines.push_back("warning: " + warning);
  for (const std::string& warning : data_.warnings) lines.push_back("warning: " + warning);
  return lines;
}

// Where the classifier trains alone at first: how long, and the groups after that.
std::vector<std::string> Trainer::describe_groups() const {
  const int64_t frozen = config_.frozen_parts();
  std::vector<std::string> lines = group_table(
      train_step_.optimizer().groups([&](const std::string& name) { return network_.part_of(name) < frozen; }));
  if (head_only_steps_ > 0) {
    lines.insert(lines.begin(), join("head only   for ", config_.finetune.head_only.text(), " (",
                                     format_count(head_only_steps_), head_only_steps_ == 1 ? " step" : " steps",
                                     ") only the classifier trains; after that, by these groups:"));
  }
  return lines;
}

// A step on images of another size needs buffers of that size, and another CUDA graph.
void Trainer::follow_image_size() {
  const int64_t size = loader_.image_size();
  if (size == input_.capacity().h) return;
  train_step_.release_graph();
  input_.resize(size, size);
  progress_.line(join("image size  ", size, "x", size, " from epoch ", step() / steps_per_epoch_ + 1, " on"));
}

Trainer::BatchPosition Trainer::position_of(int64_t batch) const {
  if (config_.train.overfit_batches > 0) return {0, batch % config_.train.overfit_batches};
  const int64_t batches_per_epoch = steps_per_epoch_ * config_.optimizer.accumulate;
  return {batch / batches_per_epoch, batch % batches_per_epoch};
}

std::optional<BatchMix> Trainer::mix_of(int64_t batch, int64_t image_size) const {
  const int64_t seen = config_.train.overfit_batches > 0 ? position_of(batch).batch : batch;
  const int64_t accumulate = config_.optimizer.accumulate;
  return draw_batch_mix(config_.augment, image_size, config_.train.seed, seen / accumulate, seen % accumulate);
}

// Nothing to do unless the loader's epoch is at its end, or the run has just begun.
void Trainer::go_to_batch(int64_t batch) {
  const BatchPosition position = position_of(batch);
  if (in_epoch_ && position.batch > 0) return;
  loader_.start_epoch(position.epoch, position.batch);
  in_epoch_ = true;
}

void Trainer::take_step() {
  const int64_t first_batch = step() * config_.optimizer.accumulate;
  go_to_batch(first_batch);
  evaluated_ = false;
  follow_image_size();
  const std::string execution = train_step_.execution();
  for (int i = 0; i < config_.optimizer.accumulate; ++i) {
    if (i > 0) go_to_batch(first_batch + i);
    Batch batch;
    const bool delivered = loader_.next(batch);
    RIFFLE_CHECK(delivered, "the epoch ended at step ", step(), ", but has ", steps_per_epoch_, " steps");
    state_.window.wait_ms += batch.wait_ms;
    state_.window.ready_batches += batch.ready;
    if (log_ && step() == 0 && i == 0) log_->first_batch(batch, data_.classes);
    const std::optional<BatchMix> mix = mix_of(first_batch + i, batch.height);
    input_.upload(batch.images, batch.count);
    if (i == 0) begin_step();  // may wait for the step before, so after an upload that need not
    const Variable x = input_.images(mix ? &mix->image : nullptr);
    train_step_.forward_backward(x, targets_of(batch, mix));
  }
  train_step_.finish();
  if (!chosen_shown_)
    for (const std::string& choice : backend_.choices()) progress_.line("chosen      " + choice);
  chosen_shown_ = true;
  if (train_step_.execution() != execution)
    progress_.line((train_step_.gave_up_graph() ? "warning: " : "execution   ") + train_step_.execution());
}

void Trainer::begin_step() {
  const int64_t frozen = network_.frozen_parts();
  train_step_.begin(learning_rate_.at(step()));
  if (network_.frozen_parts() != frozen)
    progress_.line(join("thawed      from step ", step() + 1, " on all but the frozen parts trains"));
}

BatchTargets Trainer::targets_of(const Batch& batch, const std::optional<BatchMix>& mix) {
  if (!mix) return input_.labels(batch.labels, batch.count);
  return input_.mixed_labels(batch.labels, batch.count, mix->share, config_.train.label_smoothing,
                             network_.config().classes);
}

double Trainer::try_steps(int64_t steps) {
  train_step_.end_head_only();  // the steps of the classifier alone take less time and memory
  Stopwatch clock;
  for (int64_t i = 0; i < steps; ++i) {
    clock.restart();
    take_step();
    read_window();
    state_.window = {};
    state_.window.first_step = step();
  }
  return clock.seconds();
}

bool Trainer::run(const RunFolder& folder, const std::function<bool()>& stop) {
  const std::string title = join("ShuffleNetV2 ", network_.config().width_name(), ", ", config_.data.source);
  log_ = std::make_unique<RunLog>(folder, title, config_.log, step(), evaluated_,
                                  [this](const std::string& warning) { progress_.line(warning); });
  if (const int64_t dropped = log_->dropped_records(); dropped > 0)
    progress_.line(
        join("log         dropped ", dropped, dropped == 1 ? " record" : " records", " after step ", step()));
  // An earlier end's last phase may have written a better one than the checkpoint of its last step knows.
  if (log_->best_recalibrated().top1 > state_.best.top1) state_.best = log_->best_recalibrated();
  const KeepOptions keep{config_.checkpoint.keep, config_.checkpoint.keep_every.steps(steps_per_epoch_)};
  checkpoints_ = std::make_unique<RunCheckpoints>(backend_, folder, metadata_, keep);
  for (const std::string& line : checkpoints_->set_aside_after(step())) progress_.line(line);
  // A branch in a folder of its own, or back before the best: `best` is the best from here on.
  if (!std::filesystem::exists(folder.checkpoint("best"))) state_.best = {};
  folder_ = folder;
  stop_ = stop;
  window_clock_.restart();
  if (step() > 0 && evaluation_is_due() && !evaluated_) evaluate();
  while (step() < last_step_ && !stops_early() && !stop_()) {
    take_step();
    report();
    report_failed_saves();
    if (step() % steps_per_epoch_ == 0 || step() == last_step_)
      finish_epoch();
    else if (checkpoint_is_due())
      save(nullptr);
  }
  if (step() != last_step_ && step() % steps_per_epoch_ != 0) report_bad_images();  // of the part before the stop
  bool is_finished = finished();
  if (saved_step_ != step() && step() > 0) save(nullptr);
  log_->finish();  // before what throws where the disk is full
  checkpoints_->finish();
  report_failed_saves();
  if (is_finished) is_finished = recalibrate_network(folder);
  if (is_finished) describe_end();
  return is_finished;
}

// Of the whole run, its earlier starts among it; but memory and results are this process's.
void Trainer::describe_end() {
  last_progress_.device_peak_bytes = backend_.memory().peak_bytes;
  last_progress_.process_peak_bytes = process_peak_bytes();
  const double images = static_cast<double>(step()) * static_cast<double>(images_per_step());
  progress_.line(join("finished    in ", format_duration(state_.training_seconds + state_.evaluation_seconds),
                      " (evaluation ", format_duration(state_.evaluation_seconds), "), ",
                      format_fixed(images / state_.training_seconds, 0), " images/s on average, peak memory ",
                      describe_memory(last_progress_)));
  if (last_evaluation_) {
    progress_.line("weights     " + describe(last_evaluation_->raw));
    if (last_evaluation_->ema) progress_.line("EMA         " + describe(*last_evaluation_->ema));
  }
  progress_.highlight(join("best        top-1 accuracy ", format_percent(state_.best.top1), " (error ",
                           format_percent(1 - state_.best.top1), "), ", state_.best.description));
}

bool Trainer::evaluation_is_scheduled() const {
  return step() == total_steps_ || (step() % steps_per_epoch_ == 0 && epoch() % config_.eval.every_epochs == 0);
}

bool Trainer::evaluation_is_due() const {
  return step() == last_step_ || evaluation_is_scheduled();
}

bool Trainer::checkpoint_is_due() const {
  if (config_.checkpoint.every.value == 0) return false;
  return step() % std::max<int64_t>(1, config_.checkpoint.every.steps(steps_per_epoch_)) == 0;
}

// A log line every so many steps, after the first step, and at the end of each epoch.
void Trainer::report() {
  const bool due = step() % config_.train.log_every_steps == 0 || step() == 1 || step() % steps_per_epoch_ == 0 ||
                   step() == last_step_ || (config_.train.nonfinite == "stop" && train_step_.known_unapplied());
  TrainProgress& progress = last_progress_;
  progress.epoch = epoch();
  progress.epochs = epochs();
  progress.step = step();
  progress.steps = last_step_;
  progress.lr = learning_rate_.at(step() - 1);
  if (step() == head_only_steps_) read_window();  // what was not finite is looked for in the same network
  const bool logged = due && log(progress);
  progress.eta_s = remaining_seconds();
  progress_.step(progress, logged);
}

// What the device has gathered for the next log line comes to the host, where a checkpoint can hold it.
void Trainer::read_window() {
  const int64_t first_step = step() - train_step_.unread_steps();
  state_.window.sums = train_step_.read_metrics(state_.window.sums);
  handle_unapplied_steps();
  check_loss(first_step);
}

// False if there is nothing to log: each step since the last line was skipped.
bool Trainer::log(TrainProgress& progress) {
  read_window();
  const TrainingState::Window& window = state_.window;
  const MetricSums& sums = window.sums;
  if (sums.images == 0) return false;
  const double seconds = window_seconds();
  const auto steps = static_cast<double>(step() - window.first_step);
  state_.training_seconds += seconds;
  progress.loss = sums.loss();
  progress.top1 = sums.top1();
  progress.top5 = sums.top5();
  progress.images_per_s = static_cast<double>(sums.images) / seconds;
  progress.data_wait_fraction = std::min(1.0, window.wait_ms / (1000 * seconds));
  progress.grad_norm = train_step_.read_grad_norm();
  progress.loss_scale = train_step_.loss_scale().value;
  progress.device_peak_bytes = backend_.memory().peak_bytes;
  progress.process_peak_bytes = process_peak_bytes();

  TrainRecord record;
  record.step = step();
  record.epoch = epochs_done();
  record.loss = sums.loss();
  record.top1 = sums.top1();
  record.top5 = sums.top5();
  record.lr = progress.lr;
  record.images_per_s = progress.images_per_s;
  record.data_queue = static_cast<double>(window.ready_batches) / (steps * config_.optimizer.accumulate);
  progress.data_queue = record.data_queue;
  progress.prefetch = config_.data.prefetch;
  record.data_wait_ms = window.wait_ms / steps;
  record.grad_norm = progress.grad_norm;
  if (config_.train.precision == "fp16") record.loss_scale = progress.loss_scale;
  record.device_peak_bytes = progress.device_peak_bytes;
  record.process_peak_bytes = progress.process_peak_bytes;
  log_->train(record);
  state_.window = {};
  state_.window.first_step = step();
  window_clock_.restart();
  return true;
}

void Trainer::finish_epoch() {
  report_bad_images();
  if (evaluation_is_due()) {
    evaluate();
  } else if (checkpoint_is_due()) {
    save(nullptr);
  }
  window_clock_.restart();  // a log line was written before
}

void Trainer::report_bad_images() {
  const std::vector<Loader::BadImage>& bad = loader_.bad_images();
  const std::string skipped =
      join("skipped in epoch ", epoch(), " (the limit is ", config_.data.max_bad_images, ", data.max_bad_images)");
  for (const std::string& line : describe_bad_images(bad, skipped)) progress_.line(line);
  for (const std::string& line : truncated_train_.describe(loader_.truncated_images())) progress_.line(line);
}

double Trainer::remaining_seconds() const {
  const auto left = static_cast<double>(last_step_ - step());
  const double training = (state_.training_seconds + window_seconds()) / static_cast<double>(step()) * left;
  if (state_.evaluations == 0) return training;
  const int64_t left_to_evaluate = count_evaluations(epoch(), epochs(), config_.eval.every_epochs);
  return training +
         state_.evaluation_seconds / static_cast<double>(state_.evaluations) * static_cast<double>(left_to_evaluate);
}

}  // namespace riffle
