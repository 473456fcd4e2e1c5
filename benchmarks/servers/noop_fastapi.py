"""FastAPI and uvicorn alone, without a queue: what carries headstart. noop_fastapi.py PORT."""

import sys

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

app = FastAPI()


@app.post("/predict")
async def predict(request: Request) -> Response:
    row = orjson.loads(await request.body())
    return Response(
        orjson.dumps({"label": "blue", "label_confidence": 0.9998, "n": len(row["text"])}),
        media_type="application/json",
    )


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
