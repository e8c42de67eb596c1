// PyTorch's files, .pth, .pt and .pth.tar: read without PyTorch and without running what is in them (pickle.h), and
// written so that torch.load(weights_only=True) takes them. The formats: torch/serialization.py; zip archives since 1.6,
// before that pickles followed by storages.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/checkpoint/tensor_file.h"

namespace riffle {

// Where the weights are is found out: a dict of tensors at the top, or under one of the names that training scripts use
// (state_dict, model, model_state_dict, net, network, module; then averages: state_dict_ema, model_ema, ema), or the
// modules of a pickled nn.Module or a TorchScript archive. `entry` asks for another key at the top. Prefixes "module." and
// "_orig_mod." are dropped. The notes say what was chosen and what else there is. Throws, naming the file, for anything
// damaged, for big-endian files and for those of before 2016 (tar archives).
TensorFile read_pth(const std::string& path, const std::string& entry = "");
TensorFile parse_pth(const std::vector<uint8_t>& bytes, const std::string& name, const std::string& entry = "");

// A state dict: an OrderedDict of tensors, in the order of their names. Atomic, as write_safetensors().
void write_pth(const std::string& path, const TensorMap& tensors);

}  // namespace riffle
