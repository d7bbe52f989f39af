"""Pretraining objectives, exactly as published, over one Transformer.

    import zoo

    zoo.recipes()                              # the names of all recipes
    recipe = zoo.recipe("gpt2-nano")           # a frozen, typed recipe; overrides: train={"updates": 100}
    network = zoo.build(recipe)                # the untrained Keras network and the layers of its objective
    run = zoo.pretrain(recipe, data="my.txt")  # trains; run.folder, run.history, run.load()
    model = zoo.load(run.folder)               # numpy in, numpy out: model.logits(token), model.generate([...])

Importing this package loads neither TensorFlow nor Keras; the first call that needs them does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zoo.registry import recipe, recipes
    from zoo.train.pretrain import pretrain
    from zoo.train.start import build
    from zoo.use.loaded import load

_HOME = {
    "recipes": "zoo.registry",
    "recipe": "zoo.registry",
    "build": "zoo.train.start",
    "pretrain": "zoo.train.pretrain",
    "load": "zoo.use.loaded",
}

__all__ = ["build", "load", "pretrain", "recipe", "recipes"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
