// Checks of the contracts in core/backend.h that every backend shares: shapes and dtypes of an operation's arguments.
#pragma once

#include <initializer_list>
#include <vector>

#include "core/backend.h"

namespace riffle {

void check_same_shape(const Tensor& a, const Tensor& b, const char* operation);
// Each of `vectors` is a packed (1,1,1,channels).
void check_vectors(std::initializer_list<const Tensor*> vectors, int64_t channels, const char* operation);
// `window` fits an input of this size.
void check_window_fits(const Window& window, const Shape& input, const char* operation);
// `output` shares no element with any of `inputs`, absent ones aside. Channel slices of one tensor may be disjoint.
void check_no_overlap(const Tensor& output, std::initializer_list<const Tensor*> inputs, const char* operation);
// y is what `window` makes of x, with `channels` channels.
void check_window(const Tensor& x, const Window& window, const Tensor& y, int64_t channels, const char* operation);
void check_depthwise(const Tensor& x, const Tensor& w, const Window& window, const Tensor& y);
void check_conv2d(const Tensor& x, const Tensor& w, const Window& window, int64_t groups, const Tensor& y);
void check_pointwise(const Tensor& x, const Tensor& w, const Tensor& y);
// `parts` together have this shape.
void check_parts(const ChannelParts& parts, const Shape& shape, const char* operation);
// `scalars` is what StepScalar describes.
void check_scalars(const Tensor& scalars, const char* operation);
// `sums` is packed (1,1,2,channels).
void check_norm_sums(const Tensor& sums, int64_t channels, const char* operation);
// Arguments of norm_depthwise and its backward.
void check_norm_depthwise(const Tensor& x, const BatchNormState& before, const Tensor& w, const Window& window,
                          const Tensor& y, const char* operation);
// Arguments of fold_norm and fold_norm_backward.
void check_fold_norm(const Tensor& w, const Tensor& like_w, const BatchNormState& norm, const char* operation);
// Pairwise equal shapes, all packed.
void check_updates(const std::vector<ParameterUpdate>& updates);
void check_averages(const std::vector<Tensor>& averages, const std::vector<Tensor>& values);
// Forward and backward alike: x and dx are alike, and so are y and dy.
void check_max_pool(const Tensor& x, const Window& window, const Tensor& y, const Tensor& winner,
                    const char* operation);
void check_halves(const Tensor& a, const Tensor& b, const Tensor& whole, const char* operation);
// Of a convolution with `outputs` channels.
void check_epilogue(const Epilogue& epilogue, int64_t outputs, const char* operation);
void check_labels(const Tensor& logits, const Tensor& labels);
void check_targets(const Tensor& logits, const Tensor& targets);
// Of a cross-entropy, whose targets (or labels) are checked already. Scalars and dlogits may be absent.
void check_losses(const Tensor& logits, const Tensor& targets, const Tensor& scalars, const Tensor& loss,
                  const Tensor& dlogits, const char* operation);
// `flips` may be absent.
void check_normalize(const Tensor& images, const Tensor& flips, const Normalisation& normalisation, const Tensor& y);
// Besides check_normalize.
void check_image_mix(const ImageMix& mix, const Shape& images);
void check_mixed_targets(const Tensor& labels, const Tensor& others, double share, double smoothing,
                         const Tensor& targets);

}  // namespace riffle
