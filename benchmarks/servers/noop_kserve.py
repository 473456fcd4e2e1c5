"""KServe's server with its V1 route; it has no batches. noop_kserve.py --http_port PORT --enable_grpc false."""

import kserve


class Noop(kserve.Model):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ready = True

    def predict(self, payload: dict, headers: dict | None = None) -> dict:
        return {"predictions": [{"label": "blue", "label_confidence": 0.9998}] * len(payload["instances"])}


if __name__ == "__main__":
    kserve.ModelServer(http_port=None).start([Noop("toy")])
