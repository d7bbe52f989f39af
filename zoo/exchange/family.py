"""A family of Hugging Face classes: which recipes they compute, what their config.json says, which arrays they have."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from zoo import registry
from zoo.errors import UserError
from zoo.network.shapes import Shapes
from zoo.schema import Recipe, checked, merged

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu": "gelu", "relu": "relu", "silu": "silu"}
ACTIVATIONS |= {"gelu_pytorch_tanh": "gelu_tanh", "swish": "silu"}
UNLESS = {"tie_word_embeddings": True, "is_decoder": False, "is_encoder_decoder": False, "add_cross_attention": False}
UNLESS |= {"pruned_heads": {}, "quantization_config": {}, "auto_map": {}}
LARGEST = 1 << 24  # rows or columns that a config.json may speak of


class Tensor(NamedTuple):
    """One of their arrays: ours joined on the last axis, transposed or not, in a shape of their own.

    So GPT-2's queries, keys and values are one matrix, BERT's matrices stand the other way round, and XLNet's have an
    axis for heads.
    """

    theirs: str
    shape: tuple[int, ...]
    ours: tuple[str, ...]  # none: zeros
    transposed: bool = False

    def made(self, weights: Mapping[str, np.ndarray]) -> np.ndarray:
        """Their array, of our weights."""
        if not self.ours:
            return np.zeros(self.shape, np.float32)
        array = np.concatenate([weights[name] for name in self.ours], axis=-1)
        return np.ascontiguousarray(array.T if self.transposed else array).reshape(self.shape)

    def part(self, name: str, array: np.ndarray, shapes: Shapes) -> np.ndarray:
        """Our weight of that name, of their array; shapes: of our weights."""
        widths = [shapes[each][-1] for each in self.ours]
        joined = (*shapes[name][:-1], sum(widths))
        ours = array.reshape(joined[::-1]).T if self.transposed else array.reshape(joined)
        begin = sum(widths[: self.ours.index(name)])
        return ours[..., begin : begin + shapes[name][-1]]


def linear(theirs: str, ours: Sequence[str], inputs: int, outputs: int, *, transposed: bool) -> list[Tensor]:
    """A projection with a bias; transposed: as torch's Linear has it, [outputs, inputs]."""
    shape = (outputs, inputs) if transposed else (inputs, outputs)
    kernels, biases = (tuple(f"{name}.{kind}" for name in ours) for kind in ("kernel", "bias"))
    return [Tensor(f"{theirs}.weight", shape, kernels, transposed), Tensor(f"{theirs}.bias", (outputs,), biases)]


def norm(theirs: str, ours: str, width: int) -> list[Tensor]:
    """A layer norm."""
    return [
        Tensor(f"{theirs}.weight", (width,), (f"{ours}.scale",)),
        Tensor(f"{theirs}.bias", (width,), (f"{ours}.bias",)),
    ]


class Key(NamedTuple):
    """A key of config.json, and what it means there to leave it out."""

    name: str
    default: Any

    def of(self, config: Mapping[str, Any]) -> Any:
        """What config.json says, of the type that the default has. UserError where it is of another."""
        value = config.get(self.name)
        if value is None:
            return self.default
        kind = type(self.default)
        fits = {float: (float, int), str: str, bool: bool}.get(kind, int)
        wrong_bool = isinstance(value, bool) and kind is not bool
        if not isinstance(value, fits) or wrong_bool or (fits is int and value > LARGEST):
            needs = {float: "a number", str: "a name", bool: "true or false"}
            what = needs.get(kind, f"a whole number up to {LARGEST:,}")
            raise UserError(f"config.json: {self.name} is {value!r}; it must be {what}")
        return value


class Family:
    """Base class; a family is the one subclass in its module."""

    model_type: ClassVar[str]  # as config.json has it
    like: ClassVar[str]  # the recipe whose rows and training an imported model would go on with
    keys: ClassVar[dict[str, Key]]  # field of a recipe's model section -> where config.json has it
    vocabulary: ClassVar[Key]
    activations: ClassVar[dict[str, str]] = ACTIVATIONS  # theirs -> ours; of two names for one the first is written
    computes: ClassVar[dict[str, Collection[Any]]]  # field of a recipe -> the values that the classes compute
    unless: ClassVar[dict[str, Any]] = {}  # further keys of config.json that the zoo's network knows one value of
    tied: ClassVar[dict[str, str]]  # arrays that some folders hold once more -> what they repeat
    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "token_type_ids", "attention_mask")
    padding_side: ClassVar[str] = "right"
    ends: ClassVar[str] = "eos"  # the role of their eos_token; where no token has it, the end of a document
    frame: ClassVar[tuple[tuple[str, int], ...]] = ()  # (role or text, its segment) of a pair of texts, A and B

    def architecture(self, recipe: Recipe, absent: frozenset[str]) -> str:
        """The class that loads such a model whole."""
        raise NotImplementedError

    def tensors(self, recipe: Recipe) -> list[Tensor]:
        """All their arrays, under the names that the whole class gives them."""
        raise NotImplementedError

    def known(self, name: str) -> str:
        """The name in `tensors` of an array that a folder has under an older or shorter one."""
        return name

    def written(self, name: str, absent: frozenset[str]) -> str:
        """The name that an array of `tensors` is written under."""
        return name

    def repeats(self, config: Mapping[str, Any]) -> Mapping[str, str]:
        """`tied`, as far as config.json settles it."""
        return self.tied

    def idle(self, names: Collection[str]) -> set[str]:
        """Those of the arrays that no class computes with."""
        return set()

    def objective(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Settings of the objective that a folder's arrays speak of."""
        return {}

    def absent(self, arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
        """What the names of those of our weights begin with that such a folder does not have."""
        return ()

    def mismatches(self, recipe: Recipe) -> list[str]:
        """The fields of a recipe that the classes do not compute, with what they do."""
        found, values = [], recipe.model_dump()
        for field, allowed in self.computes.items():
            section, _, key = field.partition(".")
            if (value := values[section][key]) not in allowed:
                needs = f"{allowed.start} or more" if isinstance(allowed, range) else " or ".join(map(repr, allowed))
                found.append(f"{field} {needs} (it is {value!r})")
        return found

    def config(self, recipe: Recipe, ids: Mapping[str, int | None]) -> dict[str, Any]:
        """What config.json says of a recipe; ids: of the special tokens of what it writes, None where unknown."""
        model = recipe.model
        found = {key.name: getattr(model, field) for field, key in self.keys.items()}
        written = {ours: theirs for theirs, ours in reversed(self.activations.items())}
        found[self.keys["activation"].name] = written[model.activation]
        if (inner := self.keys.get("inner")) and inner.default is not None:
            found[inner.name] = model.inner_width
        return {self.vocabulary.name: recipe.tokenizer.size, **found, "tie_word_embeddings": True, **ids}

    def generation(self, recipe: Recipe, ids: Mapping[str, int | None]) -> dict[str, Any]:
        """What generation_config.json says; nothing for a family that writes no text from left to right."""
        return {}

    def check(self, config: Mapping[str, Any]) -> None:
        """Raises UserError, naming the key, where config.json asks for what the zoo's network does not compute."""
        for key, only in (UNLESS | self.unless).items():
            value = config.get(key)
            if value is not None and value != only:
                raise UserError(
                    f"config.json: {key} is {value!r}; the zoo computes {self.model_type} with {only!r} alone"
                )

    def model(self, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """A recipe's model section, as far as a folder settles it."""
        found = {field: key.of(config) for field, key in self.keys.items()}
        activation = found["activation"]
        if activation not in self.activations:
            raise UserError(
                f"config.json: {self.keys['activation'].name} is {activation!r};"
                f" the zoo has {', '.join(self.activations)}"
            )
        inner = None if found.get("inner") == 4 * found["width"] else found.get("inner")
        return {**found, "activation": self.activations[activation], "inner": inner}

    def rows(self, config: Mapping[str, Any]) -> dict[str, tuple[Key, int]]:
        """The tokenizers of a recipe, by its sections: which key says how many rows their table has, and how many."""
        return {"tokenizer": (self.vocabulary, self.vocabulary.of(config))}

    def recipe(
        self,
        name: str,
        config: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        tokenizers: Mapping[str, dict[str, Any]],
        context: int | None,
    ) -> Recipe:
        """What a folder holds, as a recipe that could go on training it.

        tokenizers: those sections, but for their sizes; context: for a family whose config.json has none. Raises
        UserError, naming the key, where config.json asks for what is not there or cannot be.
        """
        like = registry.recipe(self.like)
        model = {"context": context or like.model.context, **self.model(config, arrays)}
        for field in {"layers", "encoder_layers"} & self.keys.keys():
            if model[field] > len(arrays):  # before anything is listed for every layer
                raise UserError(
                    f"config.json: {self.keys[field].name} is {model[field]}, and the folder has {len(arrays)} arrays"
                )
        sections = {"model": model, "objective": self.objective(arrays)}
        for section, (_, size) in self.rows(config).items():
            sections[section] = {**like.tokenizer.model_dump(), **tokenizers.get(section, {}), "size": size}
        row_tokens = min(like.row_tokens, model["context"])
        whole = row_tokens == model["context"] and not like.data.row_tokens
        sections["data"] = {"row_tokens": None if whole else row_tokens}
        rows = like.with_rows(like.rows_per_update, row_tokens)
        values = {**merged(rows.model_dump(), sections), "name": name, "expect": None}
        return checked(Recipe, values, "config.json")
