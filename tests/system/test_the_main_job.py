"""From prompt to three images, on real parts: every step in the ledger, every file with its hash."""

import hashlib
import io
from collections import Counter
from datetime import datetime

from PIL import Image

from tests.system.installation import Installation

CANCEL_S_MAX = 2.0
"""From the request to the end in the ledger, with every service and the demo model on the processor."""


def test_a_prompt_becomes_three_images_and_a_history(installation: Installation):
    job = installation.submit(prompt="a lighthouse in a storm", quantity=3, seed=42)
    assert [asset["status"] for asset in job["assets"]] == ["reserved"] * 3
    done = installation.job_when(job["id"], "succeeded", "failed")
    assert done["status"] == "succeeded", done
    assert [asset["seed"] for asset in done["assets"]] == [42, 43, 44]
    files = {}
    for asset in done["assets"]:
        content = installation.request("GET", asset["url"]).content
        assert hashlib.sha256(content).hexdigest() == asset["sha256"]
        assert Image.open(io.BytesIO(content)).size == (128, 128) == (asset["width"], asset["height"])
        stored = installation.folder / "blobs" / "sdxl_image_fast" / "admin" / f"{job['id']}_{asset['index']}.png"
        assert stored.read_bytes() == content
        files[asset["index"]] = content
    assert len(set(files.values())) == 3
    history = installation.history(job["id"])  # thumbnails come when they are ready, also between the others
    types = [item["type"] for item in history if item["type"] != "asset.thumbnailed"]
    assert types == ["job.queued", *["asset.reserved"] * 3, "job.started", *["asset.completed"] * 3, "job.succeeded"]


def test_every_image_gets_its_thumbnail(installation: Installation):
    done = installation.job_when(installation.submit(quantity=3)["id"], "succeeded", "failed")

    def thumbnails() -> list[str]:
        return [asset["thumbnail_url"] for asset in installation.job(done["id"])["assets"] if asset["thumbnail_url"]]

    installation.wait_until(lambda: len(thumbnails()) == 3, 30)
    for url in thumbnails():
        small = installation.request("GET", url)
        assert Image.open(io.BytesIO(small.content), formats=["WEBP"]).size == (128, 128)
        assert small.headers["ETag"] == f'"{hashlib.sha256(small.content).hexdigest()}"'
    types = [item["type"] for item in installation.history(done["id"])]
    assert types.count("asset.thumbnailed") == 3


def test_the_same_seed_makes_the_same_picture_and_another_seed_another(installation: Installation):
    jobs = [installation.submit(seed=seed) for seed in (7, 7, 8)]
    hashes = [installation.job_when(job["id"], "succeeded")["assets"][0] for job in jobs]
    pixels = [Image.open(io.BytesIO(installation.request("GET", asset["url"]).content)).tobytes() for asset in hashes]
    assert pixels[0] == pixels[1] != pixels[2]


def test_a_running_job_is_canceled_between_steps(installation: Installation):
    job = installation.submit(quantity=1, params={"steps": 100, "width": 256, "height": 256})
    installation.job_when(job["id"], "processing")
    answer = installation.request("POST", f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status_code, answer.json()["result"]) == (202, "cancel_requested")
    done = installation.job_when(job["id"], "canceled", "succeeded", within_s=20)
    assert done["status"] == "canceled"
    at = {event["type"]: datetime.fromisoformat(event["at"]) for event in installation.history(job["id"])}
    assert (at["job.canceled"] - at["job.cancel_requested"]).total_seconds() < CANCEL_S_MAX
    assert {asset["status"] for asset in done["assets"]} == {"canceled"}
    again = installation.request("POST", f"/v1/jobs/{job['id']}/cancel")
    assert again.json()["result"] == "already_finished"


def test_workspace_library_and_rating_follow_the_job(installation: Installation):
    job = installation.submit(prompt="a very particular wombat")
    done = installation.job_when(job["id"], "succeeded")
    asset = done["assets"][0]
    rated = installation.request("PUT", f"/v1/assets/{asset['id']}/rating", json={"score": 4})
    position = {"Darkroom-Min-Position": rated.headers["Darkroom-Position"]}
    found = installation.request("GET", "/v1/library?q=wombat&min_score=4", headers=position).json()["results"]
    assert [row["id"] for row in found] == [asset["id"]]
    assert found[0]["rating"] == 4
    assert asset["id"] in [row["id"] for row in installation.request("GET", "/v1/workspace").json()["results"]]
    dismissed = installation.request("DELETE", f"/v1/workspace/{asset['id']}")
    position = {"Darkroom-Min-Position": dismissed.headers["Darkroom-Position"]}
    left = installation.request("GET", "/v1/workspace", headers=position).json()["results"]
    assert asset["id"] not in [row["id"] for row in left]


def test_every_asset_ended_once(installation: Installation):
    """After all the jobs of this file."""
    endings = installation.rows(
        "select originator_id from ledger where topic in ('asset.completed.v1', 'asset.failed.v1', 'asset.canceled.v1')"
    )
    assert endings
    assert set(Counter(endings).values()) == {1}
