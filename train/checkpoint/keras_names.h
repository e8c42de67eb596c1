// The Keras tutorial's model: a subclassed tf.keras.Model, whose variables tf.train.Saver calls by class and a running
// number, "shuffle_netv2/shufflenet_stage/shufflenet_unit2/conv2d_bn__re_lu_1/conv2d_1/kernel". The numbers depend on
// what else the process built; their order is the order of construction, which is the network's.
#pragma once

#include <string>

#include "train/checkpoint/host_tensor.h"

namespace riffle {

// Tensors with such names get the paths of attributes instead, as object-based checkpoints have them and as name_map.h
// knows them: "stage2/ops/0/conv1_bn_relu/conv/kernel". Other names stay. `path` is for messages.
TensorMap with_keras_paths(const TensorMap& tensors, const std::string& path);

}  // namespace riffle
