"""Operations are counted as a person would count them."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.core.backbone import Backbone
from headstart.formats import _operations
from headstart.formats._openvino import op, ov
from headstart.formats.openvino import OpenVINO
from headstart.hubs._folder import open_folder
from headstart.testing.networks import write_bert


def constant(*shape):
    return op.constant(np.zeros(shape, np.float32))


def test_matrix_products_and_convolutions():
    x = op.parameter([2, 3, 8, 8], np.float32)
    plain = op.convolution(x, constant(5, 3, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1])
    each = op.group_convolution(plain, constant(5, 1, 1, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1])
    flat = op.reshape(each, np.array([2, 320]), False)
    product = op.matmul(flat, constant(7, 320), False, True)
    counted = _operations.count(ov.Model([op.result(product)], [x], "graph"))
    assert counted == 2 * (2 * 5 * 64 * 27) + 2 * (2 * 5 * 64 * 9) + 2 * (2 * 7 * 320)


def test_a_text_encoder_is_counted_with_its_padding(tmp_path):
    width, layers, inner = 32, 2, 64
    network = open_folder(write_bert(tmp_path / "bert", width=width, layers=layers), Backbone("local", "x"), "")
    encoded = {"ids": np.full(7, 5, np.int32), "lengths": np.array([7], np.int32)}
    tokens = 16  # One text is padded to a multiple of 16.
    linear = layers * tokens * (4 * width * width + 2 * width * inner)
    attention = layers * 2 * tokens * tokens * width
    assert OpenVINO().operations(network, encoded) == pytest.approx(2 * (linear + attention))


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_the_peak_is_that_of_a_machine(precision):
    assert 1e8 < OpenVINO().peak(precision, 1) < 1e15


@pytest.mark.parametrize(("precision", "computed"), [("f32", {"f32"}), ("int8", {"i8", "u8"})])
def test_the_product_that_is_timed_is_computed_in_that_precision(precision, computed):
    compiled = ov.Core().compile_model(_operations.product(precision)[0], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    told = [each.get_rt_info() for each in compiled.get_runtime_model().get_ops()]
    kinds = ("FullyConnected", "MatMul")
    products = [each["runtimePrecision"].astype(str) for each in told if each["layerType"].astype(str) in kinds]
    assert products
    assert set(products) <= computed
