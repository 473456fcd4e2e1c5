"""headstart with a model of toys: noop_headstart.py PORT [SECONDS_A_ROW ROWS_A_BATCH].

Its answers cost next to nothing; or so many seconds a row, and then all that comes may wait.
"""

import sys

from headstart.core.progress import Quiet
from headstart.server.limits import Limits
from headstart.server.queue.work import Budget
from headstart.stages.serve import serve
from headstart.testing.toys import toy_runtime

if __name__ == "__main__":
    port, *slow = sys.argv[1:]
    limits = Limits(budget=Budget(rows=int(slow[1])), queue_batches=1000) if slow else Limits()
    runtime = toy_runtime(row_delay=float(slow[0]) if slow else 0.0)
    serve({"toy": runtime}, port=int(port), limits=limits, progress=Quiet())
