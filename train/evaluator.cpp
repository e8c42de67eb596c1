// Evaluation.
#include "train/evaluator.h"

#include <algorithm>
#include <chrono>

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
  return loader;
}

// The images of one pass over a data set.
class Coverage {
 public:
  explicit Coverage(int64_t images) : seen_(static_cast<size_t>(images), false) {}

  void mark(int64_t index) {
    RIFFLE_CHECK(index >= 0 && index < static_cast<int64_t>(seen_.size()), "image ", index, " of ", seen_.size());
    RIFFLE_CHECK(!seen_[static_cast<size_t>(index)], "image ", index, " was delivered twice");
    seen_[static_cast<size_t>(index)] = true;
    ++count_;
  }
  void check_complete() const {
    RIFFLE_CHECK(count_ == static_cast<int64_t>(seen_.size()), count_, " of ", seen_.size(), " images were delivered");
  }

 private:
  std::vector<bool> seen_;
  int64_t count_ = 0;
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
  Coverage coverage(dataset_.size());
  EvalResult result;
  std::vector<int32_t> labels;
  std::vector<float> host_logits;  // for the observer
  int64_t done = 0;
  Batch batch;
  loader_->start_epoch(0);
  while (loader_->next(batch)) {
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
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

std::unique_ptr<ShuffleNetV2> folded_copy(Backend& backend, ShuffleNetV2& network) {
  auto copy = std::make_unique<ShuffleNetV2>(backend, network.config(), /*seed=*/0);
  copy_network(backend, network, *copy);
  copy->fold_batch_norm(backend);
  return copy;
}

}  // namespace riffle
