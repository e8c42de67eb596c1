#!/usr/bin/env python3
"""Makes tests/fixtures/tensorflow: small checkpoints, written by TensorFlow itself.

    pip install tensorflow-cpu tf_keras && scripts/goldens/make_tensorflow_fixtures.py

Development only; Riffle and its tests need no Python. Element i of every numeric tensor is i / 2 - 1 (for unsigned
types i, for bool i % 2), so that the tests need no second file with the values. Folders:
  saver/    tf.train.Saver: names as tensorpack writes them, optimizer slots, every dtype, a partitioned variable
  sharded/  the same by a sharded Saver: two data files
  object/   tf.train.Checkpoint of a Keras model: object-based (TensorFlow 2), names in the object graph
"""
import os
import pathlib
import shutil

os.environ.update(TF_USE_LEGACY_KERAS="1", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")

import numpy as np
import tensorflow
import tf_keras

tf = tensorflow.compat.v1
ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "tensorflow"


def values(shape, dtype):
    ramp = np.arange(np.prod(shape, dtype=np.int64)).reshape(shape)
    if dtype == np.bool_:
        return ramp % 2 == 1
    return (ramp if np.dtype(dtype).kind == "u" else ramp / 2 - 1).astype(dtype)


def variable(name, shape, dtype=np.float32, **arguments):
    return tf.get_variable(name, initializer=tf.constant(values(shape, dtype)), **arguments)


def saver_variables():
    for layer in ("conv1", "stage2/block0/conv1"):
        variable(layer + "/W", (3, 3, 2, 4))
        variable(layer + "/W/Momentum", (3, 3, 2, 4))
        for statistic in ("gamma", "beta", "mean/EMA", "variance/EMA"):
            variable(f"{layer}/bn/{statistic}", (4,))
    variable("linear/b", (5,))
    tf.get_variable("global_step", initializer=tf.constant(1234567890123, tf.int64))
    for dtype in (np.float64, np.float16, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.bool_):
        variable("types/" + np.dtype(dtype).name, (2, 3), dtype)
    variable("types/bfloat16", (2, 3), tf.bfloat16.as_numpy_dtype)
    variable("types/complex64", (2,), np.complex64)
    variable("empty", (0, 3))
    tf.get_variable("text", initializer=tf.constant(["one", "", "three" * 30]))
    rows = values((300, 3), np.float32)
    tf.get_variable("partitioned/W", shape=(300, 3), partitioner=tf.fixed_size_partitioner(3),
                    initializer=lambda shape, partition_info, **_: tf.constant(
                        rows[partition_info.var_offset[0]:][:shape[0]]))


def make_saver(folder, sharded):
    with tf.Graph().as_default():
        if sharded:
            with tf.device("/cpu:0"):
                variable("first/W", (2, 2))
            with tf.device("/cpu:1"):
                variable("second/W", (3, 1))
        else:
            saver_variables()
        saver = tf.train.Saver(sharded=sharded, save_relative_paths=True)
        with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
            session.run(tf.global_variables_initializer())
            saver.save(session, str(folder / "model.ckpt"), global_step=7, write_meta_graph=False)


def make_object(folder):
    model = tf_keras.Sequential([
        tf_keras.layers.Conv2D(4, 3, input_shape=(8, 8, 3), use_bias=False, name="stem"),
        tf_keras.layers.BatchNormalization(name="stem_bn"),
        tf_keras.layers.Dense(2, name="head"),
    ])
    for each in model.variables:
        each.assign(values(each.shape, np.float32))
    tensorflow.train.Checkpoint(model=model, note=tensorflow.Variable("text")).save(str(folder / "ckpt"))


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    for name, make in (("saver", lambda f: make_saver(f, False)), ("sharded", lambda f: make_saver(f, True)),
                       ("object", make_object)):
        folder = ROOT / name
        folder.mkdir(parents=True)
        make(folder)
        if name != "saver":  # one folder keeps the file that names the newest checkpoint
            (folder / "checkpoint").unlink()
        for path in sorted(folder.iterdir()):
            print(path.relative_to(ROOT), path.stat().st_size)


if __name__ == "__main__":
    main()
