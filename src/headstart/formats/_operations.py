"""How many floating-point operations a graph takes, and how many this machine does a second at its best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.formats._compress import INT8, Watched
from headstart.formats._openvino import op, ov

SIDE = 1536
"""Rows and columns of the matrices whose product is timed."""
RANGE = 6.0
"""What eight bits reach to in that product."""
TRIES, SECONDS = 12, 1.5
"""Products that are timed at most, and for how long."""


def count(graph: Any) -> float:
    """Return the operations of a graph of fixed shapes: matrix products, convolutions and attention.

    A multiplication and the addition behind it count as two; what is done to each number alone is left out.
    """
    return float(sum(_of(each) for each in graph.get_ordered_ops()))


def _of(node: Any) -> float:
    kind = node.get_type_name()
    if kind not in ("MatMul", "Convolution", "GroupConvolution", "ScaledDotProductAttention"):
        return 0.0
    first, second = (list(node.input(place).get_shape()) for place in (0, 1))
    made = math.prod(node.output(0).get_shape())
    if kind == "MatMul":
        return 2.0 * made * first[-2 if node.get_attributes().get("transpose_a") else -1]
    if kind == "ScaledDotProductAttention":
        *batch, queries, depth = first
        return 4.0 * math.prod(batch) * queries * second[-2] * depth
    # Weights are (out, in, …) or, in groups, (groups, out, in, …).
    return 2.0 * made * math.prod(second[2 if kind == "GroupConvolution" else 1 :])


def of_rows(graph: Any, core: Any, run: Callable[[Any], Session], encoded: Arrays) -> float:
    """Return the operations that a session's graph does for some rows, padding included."""
    watched = Watched(core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}))
    run(watched).run(encoded)
    total, known = 0.0, {}
    for shapes in watched.shapes:
        if shapes not in known:
            fixed = graph.clone()
            fixed.reshape({port: ov.PartialShape(shape) for port, shape in zip(fixed.inputs, shapes, strict=True)})
            known[shapes] = count(fixed)
        total += known[shapes]
    return total


def peak(core: Any, precision: str, threads: int, hint: str) -> float:
    """Return the operations a second of a large matrix product, the best of some tries.

    Args:
        precision: `int8`, or what OpenVINO computes in.
        hint: what is computed in where it is not in eight bits.
    """
    graph, weights = product(precision)
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(graph, "CPU", settings).create_infer_request()
    inputs, best, started = [weights.T.copy()], math.inf, time.perf_counter()
    request.infer(inputs)
    for _ in range(TRIES):
        before = time.perf_counter()
        request.infer(inputs)
        best = min(best, time.perf_counter() - before)
        if time.perf_counter() - started > SECONDS:
            break
    return 2.0 * SIDE**3 / best


def product(precision: str) -> tuple[Any, np.ndarray]:
    """Return the graph of a product of two matrices, one of them given, and numbers for that."""
    given = op.parameter([SIDE, SIDE], np.float32, "given")
    weights = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    left, right = given, op.constant(weights)
    if precision == INT8:
        # OpenVINO computes in eight bits where steps are laid out as NNCF lays them out: one more below zero, or none.
        left, right = _rounded(given, -RANGE * 128 / 127, 256), _rounded(right, -RANGE, 255)
    made = op.matmul(left, right, False, False)
    # One number of each row is asked for, so that writing the result does not count.
    return ov.Model([op.result(op.reduce_max(made, op.constant(np.array([1], np.int64))))], [given], "peak"), weights


def _rounded(x: Any, low: float, steps: int) -> Any:
    ends: Sequence[Any] = [op.constant(np.float32(each)) for each in (low, RANGE, low, RANGE)]
    return op.fake_quantize(x, *ends, steps)
