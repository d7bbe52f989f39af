"""What holds for all tests: nothing reaches the user's home or the network, and no test is cut off by the clock."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from zoo.train.start import use_backend

settings.register_profile("zoo", deadline=None)  # the first example of many a test compiles a graph
settings.load_profile("zoo")


def pytest_configure(config: pytest.Config) -> None:
    """Point everything that writes outside a test's own folder to one that is thrown away, before Keras is imported."""
    room = tempfile.mkdtemp(prefix="zoo-tests-")
    config.add_cleanup(lambda: shutil.rmtree(room, ignore_errors=True))
    for name in ("ZOO_HOME", "KERAS_HOME", "HF_HOME", "MPLCONFIGDIR"):
        os.environ[name] = f"{room}/{name.lower()}"
    os.environ.pop("ZOO_RECIPES", None)
    os.environ |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
    use_backend()  # many a test imports Keras itself


@pytest.fixture
def zoo_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ZOO_HOME of the test's own; the other tests share one, so that a corpus is tokenized once."""
    home = tmp_path / "zoo_home"
    monkeypatch.setenv("ZOO_HOME", str(home))
    return home


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hub that has one data set, in a folder here."""
    import datasets
    import huggingface_hub

    real = datasets.load_dataset_builder
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name, timeout: None)
    monkeypatch.setattr(
        datasets,
        "load_dataset_builder",
        lambda name, config: real(str(tmp_path / name), config, cache_dir=str(tmp_path / "cache")),
    )
    (tmp_path / "some" / "set").mkdir(parents=True)
    return tmp_path / "some" / "set"
