"""The typed recipe. Unknown keys, wrong types and impossible combinations are refused in one line."""

from typing import Any, TypeVar, get_args

from pydantic import ValidationError, model_validator

from zoo.errors import UserError, nearest
from zoo.sections import (
    SPECIALS,
    Data,
    Evaluation,
    Expect,
    Mesh,
    Model,
    Section,
    TokenizerSpec,
    Train,
    nearest_divisor,
)

S = TypeVar("S", bound=Section)

LEAST_SEGMENTS = 5  # tokens behind those that are reused: one of A, one of B, two SEP and CLS


class Recipe(Section):
    """Everything that defines a run. `name` is a label and nothing else."""

    name: str
    model: Model
    tokenizer: TokenizerSpec
    source_tokenizer: TokenizerSpec | None = None  # of the encoder; None = both sides share one vocabulary
    objective: dict[str, Any]  # name, and the settings of that objective, all of them
    data: Data = Data()
    train: Train
    evaluation: Evaluation = Evaluation()
    mesh: Mesh | None = None  # None = all devices share the rows
    expect: Expect | None = None

    @model_validator(mode="before")
    @classmethod
    def _settle_objective(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(section := given.get("objective"), dict) and "name" in section:
            from zoo.registry import objective

            kind = objective(section["name"])
            chosen = {key: value for key, value in section.items() if key != "name"}
            settings = checked(kind.Settings, chosen, f"objective {section['name']}")
            return {**given, "objective": {"name": section["name"], **settings.model_dump()}}
        return given

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if "name" not in self.objective:
            raise ValueError("objective needs a name")
        if self.row_tokens > self.model.context:
            raise ValueError(f"data.row_tokens {self.row_tokens} is above model.context {self.model.context}")
        if self.train.tokens_per_update % self.row_tokens:
            near = max(1, round(self.train.tokens_per_update / self.row_tokens)) * self.row_tokens
            raise ValueError(
                f"train.tokens_per_update {self.train.tokens_per_update} is not a multiple of the row length"
                f" {self.row_tokens}; nearest that is: {near}"
            )
        self._check_streams()
        if self.mesh is not None and self.model.heads % self.mesh.model:
            near = nearest_divisor(self.mesh.model, self.model.heads)
            raise ValueError(
                f"mesh.model {self.mesh.model} does not divide model.heads {self.model.heads};"
                f" nearest that does: {near}"
            )
        if self.model.cutoffs and self.model.cutoffs[-1] >= self.tokenizer.size:
            raise ValueError(
                f"model.cutoffs {list(self.model.cutoffs)} are not all below tokenizer.size {self.tokenizer.size}"
            )
        from zoo.registry import objective

        kind = objective(self.objective["name"])
        chosen = {key: value for key, value in self.objective.items() if key != "name"}
        if self.data.reuse is not None and not kind.parts:
            raise ValueError(
                f"objective {self.objective['name']} takes no rows of two parts; data.reuse is {self.data.reuse}"
            )
        kind.check(kind.Settings.model_validate(chosen), self.data.model_copy(update={"row_tokens": self.row_tokens}))
        if kind.encodes != bool(self.model.encoder_layers):
            reads = "reads a source and needs" if kind.encodes else "has no source to read with"
            raise ValueError(
                f"objective {self.objective['name']} {reads} an encoder; model.encoder_layers is"
                f" {self.model.encoder_layers}"
            )
        if self.data.document == "tree" and self.data.rows != "parallel":
            raise ValueError(f"data.document tree is for rows of parallel text, not {self.data.rows}")
        if self.data.test is not None and self.data.rows != "parallel":
            raise ValueError(f"data.test is for rows of parallel text, not {self.data.rows}")
        if self.data.rows == "parallel" and not kind.encodes:
            raise ValueError(f"data.rows parallel has a source, which objective {self.objective['name']} does not read")
        if self.source_tokenizer is not None:
            if not kind.encodes:
                raise ValueError(f"source_tokenizer is set, and objective {self.objective['name']} reads no source")
            if missing := {"eod", "pad"} - self.source_tokenizer.specials.keys():
                raise ValueError(f"source_tokenizer.specials needs {', '.join(sorted(missing))}")
        roles = {role for defaults in SPECIALS.values() for role in defaults} | {*kind.specials, *kind.never_target}
        for role in self.tokenizer.specials.keys() - roles:
            raise ValueError(f"tokenizer.specials names an unknown role {role!r}{nearest(role, roles)}")
        needs = [(f"objective {self.objective['name']}", kind.specials)]
        needs += [("data.rows pairs", ("cls", "sep"))] if self.data.rows == "pairs" else []
        needs += [("data.reuse", ("cls", "sep"))] if self.data.reuse is not None else []
        for what, roles in needs:
            if missing := [role for role in roles if role not in self.tokenizer.specials]:
                raise ValueError(
                    f"{what} needs the special tokens {', '.join(missing)};"
                    f" tokenizer.specials has {', '.join(self.tokenizer.specials)}"
                )
        return self

    def _check_streams(self) -> None:
        data, streams = self.data, self.streams
        if data.rows != "stream":
            given = {"model.memory": self.model.memory, "train.streams": self.train.streams}
            given |= {f"evaluation.{key}": value for key, value in self.evaluation.model_dump().items()}
            for key, value in given.items():
                if value:
                    raise ValueError(f"{key} {value} is for rows that are a stream; data.rows is {data.rows}")
            return
        if self.rows_per_update % streams:
            raise ValueError(
                f"train.streams {streams} do not divide the {self.rows_per_update} rows of an update;"
                f" nearest that does: {nearest_divisor(streams, self.rows_per_update)}"
            )
        if data.bidirectional and streams % 2:
            raise ValueError(
                f"data.bidirectional needs even halves, and {streams} streams have none; nearest: {streams + 1}"
            )
        if data.reuse is not None:
            if self.evaluation.row_tokens is not None:
                raise ValueError("evaluation.row_tokens is for rows that are all new; data.reuse is set")
            if data.reuse > (most := self.row_tokens - LEAST_SEGMENTS):
                raise ValueError(
                    f"data.reuse {data.reuse} leaves no room for two segments in rows of {self.row_tokens} tokens;"
                    f" nearest that does: {most}"
                )
            if self.model.positions != "relative" and 0 < self.model.segments < 3:
                raise ValueError(f"data.reuse makes 3 segments; model.segments is {self.model.segments}")
        rows = self.train.updates * self.rows_per_update // streams
        longest = rows * self.new_tokens
        if self.model.memory > longest:
            raise ValueError(
                f"model.memory {self.model.memory} is longer than a stream of this run:"
                f" {longest} tokens ({rows} rows x {self.new_tokens} new ones)"
            )

    @property
    def streams(self) -> int:
        """Rows that are read side by side, each going on where it ended."""
        return self.train.streams or self.rows_per_update

    @property
    def evaluated(self) -> "Recipe":
        """The recipe with what evaluation has of its own."""
        own = {"streams": self.streams} | {key: value for key, value in self.evaluation if value is not None}
        parts = {"model": ("memory", "clamp", "same_length"), "data": ("row_tokens",), "train": ("streams",)}
        changed = {
            section: getattr(self, section).model_copy(update={key: own[key] for key in keys if key in own})
            for section, keys in parts.items()
        }
        return self.model_copy(update=changed)

    @property
    def new_tokens(self) -> int:
        """By how many tokens a stream advances from row to row: those that a memory keeps of a row."""
        return self.data.reuse or self.row_tokens

    @property
    def row_tokens(self) -> int:
        return self.data.row_tokens or self.model.context

    @property
    def source_size(self) -> int | None:
        """Rows of the encoder's own table of tokens; None where it shares the decoder's."""
        return None if self.source_tokenizer is None else self.source_tokenizer.size

    @property
    def scored_rows(self) -> int:
        """Rows that the softmax of a token's loss covers: the vocabulary's, and the positions' where they count."""
        return self.tokenizer.size + (self.model.context if self.model.head_positions else 0)

    @property
    def rows_per_update(self) -> int:
        return self.train.tokens_per_update // self.row_tokens

    def with_rows(self, count: int, row_tokens: int) -> "Recipe":
        """The same recipe with updates of so many rows of some length; every row is a stream of its own where rows are
        streams, and `reuse` keeps its share of a row.
        """
        data: dict[str, Any] = {"row_tokens": row_tokens}
        if self.data.reuse is not None:
            data["reuse"] = max(1, min(self.data.reuse * row_tokens // self.row_tokens, row_tokens - LEAST_SEGMENTS))
        return self.with_changes(data=data, train={"tokens_per_update": count * row_tokens, "streams": None})

    def with_changes(self, **sections: Any) -> "Recipe":
        """The same recipe with some values changed, checked again: `with_changes(train={"updates": 10})`."""
        return checked(Recipe, merged(self.model_dump(), sections), self.name)


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, section by section; another objective replaces the settings of the first."""
    result = dict(below)
    for key, value in above.items():
        under = below.get(key)
        if isinstance(value, dict) and isinstance(under, dict) and not _replaces(key, under, value):
            result[key] = merged(under, value)
        else:
            result[key] = value
    return result


def _replaces(key: str, below: dict[str, Any], above: dict[str, Any]) -> bool:
    """Whether a section is taken as a whole: special tokens are one list, and settings belong to one objective."""
    return key == "specials" or (key == "objective" and above.get("name", below.get("name")) != below.get("name"))


def checked(kind: type[S], values: dict[str, Any], where: str) -> S:
    """`values` as a typed section, or a UserError that names the key, the value and what was allowed."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        path = [str(part) for part in first["loc"]]
        if first["type"] == "extra_forbidden":
            parent = _section_at(kind, path[:-1])
            problem = f"unknown key {'.'.join(path)!r}{nearest(path[-1], parent.model_fields)}"
        elif first["type"] == "missing":
            problem = f"{'.'.join(path)} is missing"
        elif first["type"] == "value_error":
            said = first["msg"].removeprefix("Value error, ")
            problem = f"{'.'.join(path)}: {said}" if path else said
        else:
            shown = repr(first["input"])
            shown = shown if len(shown) < 80 else shown[:77] + "..."
            problem = f"{'.'.join(path)} is {shown}: {first['msg'][0].lower()}{first['msg'][1:]}"
        raise UserError(f"{where}: {problem}") from None


def _section_at(kind: type[Section], path: list[str]) -> type[Section]:
    for part in path:
        hint = kind.model_fields[part].annotation
        (kind,) = (t for t in (hint, *get_args(hint)) if isinstance(t, type) and issubclass(t, Section))
    return kind
