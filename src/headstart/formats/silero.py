"""Run Silero's voice detector (ONNX), carrying its memory from one call to the next."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError, UsageError
from headstart.core.format import Format
from headstart.core.registry import require

RATE = 16_000
WINDOW, CONTEXT = 512, 64
"""Samples that are judged at a time, and those before them that the network sees again."""


@final
class Silero(Format):
    """ONNX Runtime on Silero VAD, version 5 and later: how probable speech is, every 32 ms."""

    tolerance = 1e-6

    def precisions(self) -> list[str]:
        """Return f32: the network is tiny."""
        return ["f32"]

    def supports(self, network: Network) -> str:
        """Return an empty string for Silero's detector, else why not."""
        return "" if network.library == "silero" else "it is not Silero's voice detector"

    def open(self, network: Network, precision: str, threads: int) -> Session:
        """Load the network.

        Raises:
            HubError: the file is damaged.
            MissingExtra: ONNX Runtime is not installed.
        """
        reason = self.supports(network)
        if reason:
            raise HubError(f"'{network.backbone.reference}' cannot be opened: {reason}.")
        if precision != "f32":
            raise UsageError(f"There is no precision '{precision}'.", allowed="Precisions: 'f32'.")
        runtime = require("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            opened = runtime.InferenceSession(str(network.weights), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise HubError(f"'{network.weights}' cannot be read as ONNX.", hint="Fetch the file again.") from error
        return VoiceSession(opened)


@final
class VoiceSession(Session):
    """An opened voice detector.

    `samples` (k x 512,) at 16 kHz in; `speech` (k,) from 0 to 1 out, with `context` and `state`, which are given in
    again with the samples that follow.
    """

    def __init__(self, opened: Any) -> None:
        self.opened = opened

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `speech` (k,), and the memory: `context` (1, 64) and `state` (2, 1, 128)."""
        context = arrays.get("context", np.zeros((1, CONTEXT), np.float32))
        state = arrays.get("state", np.zeros((2, 1, 128), np.float32))
        rate, found = np.array(RATE, np.int64), []
        for window in arrays["samples"].reshape(-1, 1, WINDOW):
            joined = np.concatenate([context, window], axis=1)
            speech, state = self.opened.run(["output", "stateN"], {"input": joined, "state": state, "sr": rate})
            context = window[:, -CONTEXT:]
            found.append(float(speech[0, 0]))
        return {"speech": np.array(found, np.float32), "context": context, "state": state}
