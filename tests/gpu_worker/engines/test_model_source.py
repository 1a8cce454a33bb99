"""Sources of models: what is on this machine comes first, and what is missing is one sentence."""

from pathlib import Path

import pytest

from gpu_worker.engines import ModelUnavailable
from gpu_worker.engines.model_source import is_hub_id, snapshot_of, source_of


@pytest.mark.parametrize("source", ["/models/sdxl", "./models/sdxl", "~/models", "sdxl", "a/b/c", "a b/c", ""])
def test_a_path_is_no_hub_id(source: str) -> None:
    assert not is_hub_id(source)


def test_a_folder_of_this_machine_comes_before_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("stabilityai/sdxl-1.0")
    (tmp_path / "stabilityai" / "sdxl-1.0").mkdir(parents=True)
    assert not is_hub_id("stabilityai/sdxl-1.0")


def test_what_cannot_be_fetched_is_one_sentence(tmp_path: Path) -> None:
    def fails() -> str:
        raise ConnectionError("no\nnetwork")

    assert snapshot_of("org/model", lambda: str(tmp_path)) == tmp_path
    with pytest.raises(ModelUnavailable, match=r"^org/model is no folder here, .* cannot be fetched: .*no"):
        snapshot_of("org/model", fails)


def test_an_unknown_model_is_reported_with_the_known_ones() -> None:
    assert source_of("a", {"a": "/a"}) == "/a"
    with pytest.raises(ModelUnavailable, match=r"no model called c; its models are: a, b\. Add c=FOLDER to DARK"):
        source_of("c", {"b": "", "a": ""})
