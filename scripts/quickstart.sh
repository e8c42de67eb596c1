#!/usr/bin/env bash
# From nothing to a trained network: installs what is missing, builds build/release/riffle, trains ShuffleNetV2 0.5x on
# Fashion-MNIST (60,000 + 10,000 real images, a Debian package), evaluates it and predicts a few test images.
# Run again, it repeats nothing: what is built is not built again, what is trained not trained again, and training that was
# interrupted goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/dependencies.sh

install_packages "${build_packages[@]}" dataset-fashion-mnist
echo "== building build/release/riffle"
# CUDA only where there is a GPU, and for that one: machine code for all others would take many minutes.
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
  cmake --preset release -DRIFFLE_CUDA=AUTO -DRIFFLE_CUDA_ARCHITECTURES=native >/dev/null
else
  cmake --preset release -DRIFFLE_CUDA=OFF >/dev/null
fi
cmake --build --preset release --target riffle

riffle=build/release/riffle
run=runs/quickstart
echo
"$riffle" devices
if [ -f "$run/done" ]; then
  echo "== $run is already trained; delete the folder to train again"
else
  echo "== training (configs/fashion_mnist.yaml)"
  "$riffle" train configs/fashion_mnist.yaml -o "$run" --resume auto
  touch "$run/done"
fi
echo
echo "== evaluating the best checkpoint on the 10,000 test images"
"$riffle" eval "$run/checkpoints/best.safetensors"
echo
echo "== predicting the first test images"
"$riffle" predict "$run/checkpoints/best.safetensors" idx:/usr/share/datasets/fashion-mnist --limit 8 --topk 3
cat <<END

The checkpoint:  $run/checkpoints/best.safetensors
The logs:        $run/metrics.jsonl
The curves:      $run/curves.svg
The settings:    $run/config.resolved.yaml
END
