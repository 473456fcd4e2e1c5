"""LitServe with batches and one worker: noop_litserve.py PORT."""

import sys

import litserve


class Noop(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.answer = {"label": "blue", "label_confidence": 0.9998}

    def decode_request(self, request: dict) -> str:
        return request["text"]

    def predict(self, texts: list[str]) -> list[dict]:
        return [self.answer] * len(texts)

    def encode_response(self, output: dict) -> dict:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Noop(max_batch_size=16), accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[1]), num_api_servers=1, log_level="warning", generate_client_file=False)
