// Evaluation.
#include "train/evaluator.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "layers/softmax_cross_entropy.h"
#include "train/optimizer.h"

namespace riffle {
namespace {

constexpr int64_t kBatchesBetweenReads = 16;

LoaderOptions loader_options(const EvaluatorOptions& options) {
  LoaderOptions loader;
  loader.batch = options.batch;
  loader.threads = options.loader_threads;
  loader.prefetch = options.prefetch;
  loader.training = false;
  loader.eval_transform = options.transform;
  loader.max_bad_images = options.max_bad_images;
  loader.part = options.part;
  return loader;
}

// The images of one pass over a data set.
class Coverage {
 public:
  Coverage(int64_t images, int64_t of_this_process)
      : seen_(static_cast<size_t>(images), false), expected_(of_this_process) {}

  void mark(int64_t index) {
    RIFFLE_CHECK(index >= 0 && index < static_cast<int64_t>(seen_.size()), "image ", index, " of ", seen_.size());
    RIFFLE_CHECK(!seen_[static_cast<size_t>(index)], "image ", index, " was delivered twice");
    seen_[static_cast<size_t>(index)] = true;
    ++count_;
  }
  void check_complete() const {
    RIFFLE_CHECK(count_ == expected_, count_, " of ", expected_, " images were delivered");
  }

 private:
  std::vector<bool> seen_;
  int64_t expected_, count_ = 0;
};

}  // namespace

Evaluator::Evaluator(Backend& backend, const Dataset& dataset, std::vector<int32_t> labels,
                     const EvaluatorOptions& options)
    : backend_(backend),
      dataset_(dataset),
      labels_(std::move(labels)),
      loader_(std::make_unique<Loader>(dataset, loader_options(options))),
      input_(backend, options.normalisation,
             {std::min(options.batch, dataset.size()), options.transform.crop, options.transform.crop,
              dataset.channels()}) {}

EvalResult Evaluator::run(ShuffleNetV2& network, const std::function<void(int64_t images)>& on_batch,
                          const BatchObserver& observer) {
  const auto start = std::chrono::steady_clock::now();
  const Context context{backend_};
  MetricBuffer metrics(backend_, input_.capacity().n, kBatchesBetweenReads, network.config().classes);
  Coverage coverage(dataset_.size(), images());
  EvalResult result;
  std::vector<int32_t> labels;
  std::vector<float> host_logits;  // for the observer
  int64_t done = 0;
  Batch batch;
  loader_->start_epoch(0);
  while (loader_->next(batch)) {
    const std::vector<Loader::BadImage>& bad = loader_->bad_images();
    for (; result.sums.unreadable < static_cast<int64_t>(bad.size()); ++result.sums.unreadable) {
      const Loader::BadImage& image = bad[static_cast<size_t>(result.sums.unreadable)];
      coverage.mark(image.index);
      if (observer) observe_unreadable(image, network.config().classes, observer);
    }
    if (batch.count == 0) continue;
    labels.clear();
    for (int64_t i = 0; i < batch.count; ++i) {
      coverage.mark(batch.indices[i]);
      labels.push_back(labels_.at(static_cast<size_t>(batch.labels[i])));
    }
    const Variable logits = network.forward(context, input_.images(batch.images, batch.count));
    const Tensor label_tensor = input_.labels(labels.data(), batch.count);
    const Tensor losses = softmax_cross_entropy(context, logits, label_tensor, /*smoothing=*/0);
    metrics.record(losses, logits.value(), label_tensor);
    if (metrics.full()) result.sums.add(metrics.read());
    if (observer) {
      host_logits.resize(static_cast<size_t>(logits.shape().elements()));
      backend_.download(logits.value(), DType::kF32, host_logits.data());
      observer({host_logits.data(), labels.data(), batch.indices, batch.count, network.config().classes});
    }
    done += batch.count;
    on_batch(done);
  }
  result.sums.add(metrics.read());
  coverage.check_complete();
  result.bad_images = loader_->bad_images();
  result.truncated_images = loader_->truncated_images();
  if (result.sums.images == 0 && !result.bad_images.empty())
    fail(dataset_.description(), ": no image could be read; the last one: ", result.bad_images.back().reason);
  result.sums.images += result.sums.unreadable;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

void Evaluator::observe_unreadable(const Loader::BadImage& image, int64_t classes,
                                   const BatchObserver& observer) const {
  const std::vector<float> logits(static_cast<size_t>(classes), std::numeric_limits<float>::quiet_NaN());
  const int32_t label = labels_.at(static_cast<size_t>(dataset_.label(image.index)));
  observer({logits.data(), &label, &image.index, 1, classes});
}

std::unique_ptr<ShuffleNetV2> folded_copy(Backend& backend, ShuffleNetV2& network) {
  auto copy = std::make_unique<ShuffleNetV2>(backend, network.config(), /*seed=*/0);
  copy_network(backend, network, *copy);
  copy->fold_batch_norm(backend);
  return copy;
}

}  // namespace riffle
