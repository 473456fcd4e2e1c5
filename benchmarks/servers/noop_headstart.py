"""headstart with a model that costs nothing: noop_headstart.py PORT [SECONDS_A_ROW ROWS_A_BATCH].

Its answer is always the same; or it takes so many seconds a row, and then all that comes may wait.
"""

import sys

import numpy as np

from headstart.core.progress import Quiet
from headstart.runtime import Runtime, Target
from headstart.server.limits import Limits
from headstart.server.queue.work import Budget
from headstart.stages.serve import serve
from headstart.testing.toys import ToyHead, ToyTask, ToyText, toy_runtime


class NoopText(ToyText):
    def prepare(self, table):
        return {"row": np.zeros((len(table["text"]), 1), np.float32)}


class NoopHead(ToyHead):
    def scores(self, arrays):
        return arrays["row"]


class NoopTask(ToyTask):
    def decode(self, scores):
        return {"label": ["blue"] * len(scores), "label_confidence": [0.9998] * len(scores)}


if __name__ == "__main__":
    port, *slow = sys.argv[1:]
    if slow:
        limits = Limits(budget=Budget(rows=int(slow[1])), queue_batches=1000)
        runtime = toy_runtime(row_delay=float(slow[0]))
    else:
        limits, runtime = Limits(), Runtime(None, [NoopText()], {}, {"label": Target(NoopTask(), NoopHead())})
    serve({"toy": runtime}, port=int(port), limits=limits, progress=Quiet())
