"""`python -m benchmarks.bare PORT`: FastAPI with the same body and an answer of its size, and nothing behind it."""

import sys
from uuid import uuid4

import uvicorn
from fastapi import FastAPI

from api.jobs.draft import SubmitBody

app = FastAPI()


@app.post("/v1/jobs", status_code=202)
async def submit(body: SubmitBody) -> dict[str, object]:
    """Answer like a submission."""
    quantity = body.quantity or 1
    assets = [{"id": uuid4(), "index": index, "status": "reserved", "url": "…" * 30} for index in range(quantity)]
    return {"id": uuid4(), "status": "queued", **body.model_dump(), "assets": assets}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
