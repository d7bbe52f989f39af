"""Before the first update: the backend, the precision, and the learner that a recipe describes."""

import importlib.util
import math
import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.batch import Array, Batch
from zoo.errors import UserError, nearest
from zoo.objective import Objective, Vocab
from zoo.registry import objective as find_objective
from zoo.registry import recipe as find_recipe
from zoo.schema import Recipe

if TYPE_CHECKING:
    from zoo.kernels.random import RowNoise
    from zoo.network.memory import Memory

ENGINES = ("tensorflow", "jax")  # backends of Keras that the zoo trains on
_chosen = "tensorflow"  # which of them this process is for
BFLOAT16 = {"amx_bf16", "avx512_bf16"}  # instructions of a processor for matrix products


def use_backend(engine: str | None = None) -> None:
    """Makes Keras run on an engine, whatever the user's keras.json says, before anything imports it.

    engine: None = the one that this process has already, else TensorFlow.

    Raises:
        UserError: there is no such engine, it is not installed, or Keras runs on another one already.
    """
    if engine is not None and engine not in ENGINES:
        raise UserError(f"--engine is {engine!r}{nearest(engine, ENGINES)}")
    global _chosen
    if "keras" in sys.modules:
        used = sys.modules["keras"].backend.backend()
        if used not in ENGINES or engine not in (None, used):
            wanted = engine or " or ".join(ENGINES)
            raise UserError(f"Keras was already imported on the backend {used!r}; the zoo trains on {wanted}")
        _chosen = used
        return
    _chosen = engine or _chosen
    if _chosen == "jax" and importlib.util.find_spec("jax") is None:
        raise UserError("--engine jax needs JAX, which is not installed: pip install 'objective-zoo[jax]'")
    os.environ["KERAS_BACKEND"] = _chosen
    if "avx2" in cpu_flags():  # TensorFlow leaves oneDNN's faster matmuls off on processors without AVX512-VNNI
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # warnings of the runtime; a user's own setting wins


def engine() -> str:
    """Which of ENGINES this process is for."""
    return _chosen


def start_backend() -> None:
    """Imports the engine's library on that choice, without the lines TensorFlow writes before its log level holds; then
    Keras."""
    use_backend()
    from zoo.kernels.startup import start_jax, start_tensorflow

    start_jax() if _chosen == "jax" else start_tensorflow()
    import keras

    keras.config.set_floatx("float32")  # the user's keras.json may say otherwise


@cache
def cpu_flags() -> frozenset[str]:
    """What the processor can do, as Linux tells it; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), []))


class Choice(NamedTuple):
    """What `auto` means on this machine, and why."""

    value: str
    why: str


def choices() -> dict[str, Choice]:
    """What the settings of `train` that can be `auto` mean here, by their names."""
    from zoo.kernels.probe import accelerators

    if accelerators():
        return {
            "precision": Choice("bfloat16", "a GPU has hardware for its products"),
            "compile": Choice("whole", "a GPU gains most where XLA compiles a whole update"),
        }
    if has := sorted(cpu_flags() & BFLOAT16):
        return {
            "precision": Choice("bfloat16", f"the processor has {', '.join(has)}"),
            "compile": Choice("parts", "XLA's own bfloat16 products leave that hardware of a processor unused"),
        }
    return {
        "precision": Choice("float32", f"the processor has none of {', '.join(sorted(BFLOAT16))}"),
        "compile": Choice("parts", "on a processor only chains of element-wise operations gain from XLA"),
    }


def settled(recipe: Recipe) -> Recipe:
    """The recipe with what is `auto` chosen for this machine."""
    chosen = {key: choice.value for key, choice in choices().items() if getattr(recipe.train, key) == "auto"}
    return recipe.with_changes(train=chosen)


class Learner:
    """The network and its objective: what is trained, and what a checkpoint holds.

    `weights` maps attribute paths to Keras variables; those of the objective's own layers begin with `objective.`.
    drawn=False leaves them at zero, for somebody who sets them all; objective: in place of the recipe's own.
    """

    def __init__(
        self, recipe: Recipe, vocab: Vocab, precision: str, *, drawn: bool = True, objective: Objective | None = None
    ):
        from zoo.network.initial import initialize
        from zoo.network.names import named_weights
        from zoo.network.network import Network

        seed = recipe.train.seed if drawn else None
        self.recipe = recipe
        self.objective: Objective = objective or make_objective(recipe, vocab)
        self.network = Network(
            recipe.model,
            recipe.tokenizer.size,
            precision,
            source_size=recipe.source_size,
            seed=seed,
            remat=recipe.train.remat,
        )
        self.layers = self.objective.build(recipe.model)
        self.weights: dict[str, Any] = dict(named_weights(self.network))
        if self.layers is not None:
            if seed is not None:
                initialize(self.layers, recipe.model, seed, "objective.")
            own = named_weights(self.layers)
            self.weights |= {f"objective.{name}": weight for name, weight in own.items()}

    def count_params(self) -> int:
        """Every trained weight, heads included."""
        return sum(math.prod(weight.shape) for weight in self.weights.values())

    def totals(
        self, batch: Batch, noise: "RowNoise | None" = None, memory: "Memory | None" = None, first: Any = 0
    ) -> tuple[dict[str, Any], Any]:
        """Every task's total, and without noise the weighted number of tokens that were guessed right.

        memory: of the streams that the rows go on from, which takes what they hand on; first: the number of the first
        row.
        """
        from zoo.network.reader import Reader

        past = None if memory is None else memory.past(first, batch.reset, batch.backward)
        kind = self.objective.visibility
        one = kind != "rank" and self.recipe.data.one_document
        reader = Reader(self.network, self.layers, noise, past, causal=kind == "causal", one_document=one)
        totals = self.objective.score(reader, batch)
        if memory is not None and past is not None:
            memory.take(first, past)
        return totals, reader.right

    def set_weights(self, values: Mapping[str, Array]) -> None:
        """Copies arrays into the weights of the same names."""
        for name, value in values.items():
            self.weights[name].assign(np.asarray(value, np.float32))


def make_objective(recipe: Recipe, vocab: Vocab) -> Objective:
    """The recipe's objective, with its settings typed."""
    settings = {key: value for key, value in recipe.objective.items() if key != "name"}
    kind = find_objective(recipe.objective["name"])
    return kind(kind.Settings.model_validate(settings), vocab, recipe.row_tokens, recipe.data.reuse)


def nominal_vocab(recipe: Recipe) -> Vocab:
    """The vocabulary a recipe asks for, before any tokenizer is trained."""
    return Vocab(
        recipe.scored_rows, recipe.tokenizer.size, {role: n for n, role in enumerate(recipe.tokenizer.specials)}
    )


def build(recipe: Recipe | str | Path, vocab: Vocab | None = None) -> Learner:
    """The untrained network of a recipe with the layers of its objective.

    `learner.network` reads streams, `learner.weights` are its named Keras variables, `learner.count_params()` counts
    them. Without `vocab` the ids of the special tokens are those the recipe's own tokenizer would have.
    """
    start_backend()
    if not isinstance(recipe, Recipe):
        recipe = find_recipe(recipe)
    recipe = settled(recipe)
    return Learner(recipe, vocab or nominal_vocab(recipe), recipe.train.precision)
