#!/usr/bin/env python3
"""Makes tests/fixtures/conversion/keras: the tf.keras model of a tutorial (subclassed, as tensorpack's network), small,
saved by tf.train.Saver, with its logits of images.npz. Needs TensorFlow, for development only:

    pip install tensorflow-cpu tf_keras && scripts/goldens/make_keras_goldens.py
"""

import os
import pathlib

os.environ.update(TF_USE_LEGACY_KERAS="1", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")

import numpy as np  # noqa: E402
import tensorflow  # noqa: E402
import tf_keras  # noqa: E402

tf = tensorflow.compat.v1
layers, Model = tf_keras.layers, tf_keras.Model

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/conversion"
STEM, STAGES, REPEATS, HEAD, CLASSES = 4, (8, 16, 32), (3, 2, 2), 16, 7


class Conv2D_BN_ReLU(Model):
    def __init__(self, outputs, kernel_size=1, strides=1):
        super().__init__()
        self.conv = layers.Conv2D(outputs, kernel_size, strides=strides, padding="SAME", use_bias=False)
        self.bn = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)

    def call(self, x):
        return tf.nn.relu(self.bn(self.conv(x), training=False))


class DepthwiseConv2D_BN(Model):
    def __init__(self, strides):
        super().__init__()
        self.dconv = layers.DepthwiseConv2D(3, strides=strides, padding="SAME", use_bias=False)
        self.bn = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)

    def call(self, x):
        return self.bn(self.dconv(x), training=False)


def join(shortcut, x):
    """Concatenates; even channels first, then odd ones."""
    x = tf.concat([shortcut, x], axis=3)
    return tf.concat([x[..., 0::2], x[..., 1::2]], axis=3)


class ShufflenetUnit1(Model):
    def __init__(self, channels):
        super().__init__()
        self.conv1_bn_relu = Conv2D_BN_ReLU(channels // 2)
        self.dconv_bn = DepthwiseConv2D_BN(1)
        self.conv2_bn_relu = Conv2D_BN_ReLU(channels // 2)

    def call(self, x):
        shortcut, x = tf.split(x, 2, axis=3)
        return join(shortcut, self.conv2_bn_relu(self.dconv_bn(self.conv1_bn_relu(x))))


class ShufflenetUnit2(Model):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1_bn_relu = Conv2D_BN_ReLU(outputs // 2)
        self.dconv_bn = DepthwiseConv2D_BN(2)
        self.conv2_bn_relu = Conv2D_BN_ReLU(outputs - inputs)
        self.shortcut_dconv_bn = DepthwiseConv2D_BN(2)
        self.shortcut_conv_bn_relu = Conv2D_BN_ReLU(inputs)

    def call(self, x):
        main = self.conv2_bn_relu(self.dconv_bn(self.conv1_bn_relu(x)))
        return join(self.shortcut_conv_bn_relu(self.shortcut_dconv_bn(x)), main)


class ShufflenetStage(Model):
    def __init__(self, inputs, outputs, units):
        super().__init__()
        self.ops = [ShufflenetUnit2(inputs, outputs), *(ShufflenetUnit1(outputs) for _ in range(units - 1))]

    def call(self, x):
        for unit in self.ops:
            x = unit(x)
        return x


class ShuffleNetv2(Model):
    def __init__(self):
        super().__init__()
        self.conv1_bn_relu = Conv2D_BN_ReLU(STEM, 3, 2)
        self.pool1 = layers.MaxPool2D(3, strides=2, padding="SAME")
        self.stage2, self.stage3, self.stage4 = (
            ShufflenetStage(inputs, outputs, units)
            for inputs, outputs, units in zip((STEM, *STAGES), STAGES, REPEATS))
        self.conv5_bn_relu = Conv2D_BN_ReLU(HEAD)
        self.gap = layers.GlobalAveragePooling2D()
        self.linear = layers.Dense(CLASSES)

    def call(self, x):
        x = self.pool1(self.conv1_bn_relu(x))
        return self.linear(self.gap(self.conv5_bn_relu(self.stage4(self.stage3(self.stage2(x))))))


def random_value(name, shape, generator):
    leaf = name.rsplit("/", 1)[1]
    if leaf in ("gamma", "moving_variance"):
        return generator.uniform(0.5, 1.5, shape)
    if leaf in ("beta", "moving_mean", "bias"):
        return generator.normal(0, 0.2, shape)
    fan_in = np.prod(shape[:2] if leaf == "depthwise_kernel" else shape[:-1])
    return generator.normal(0, (2 / fan_in) ** 0.5, shape)


def main():
    tf.disable_eager_execution()
    images = np.load(FOLDER / "images.npz")["images"]
    x = (images / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    inputs = tf.placeholder(tf.float32, [None, *images.shape[1:]])
    logits = ShuffleNetv2()(inputs)
    generator = np.random.default_rng(7)
    (FOLDER / "keras").mkdir(exist_ok=True)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for variable in tf.global_variables():
            value = random_value(variable.op.name, variable.shape.as_list(), generator)
            variable.load(value.astype(np.float32), session)
        np.savez(FOLDER / "keras/logits.npz", keras=session.run(logits, {inputs: x}))
        tf.train.Saver().save(session, str(FOLDER / "keras/model.ckpt"), write_meta_graph=False, write_state=False)


if __name__ == "__main__":
    main()
