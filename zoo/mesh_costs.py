"""What a mesh of devices makes of a recipe, by arithmetic alone: bytes of a device, bytes that travel, seconds."""

from bisect import bisect_left
from functools import cached_property
from math import prod
from typing import NamedTuple

from zoo import accounting
from zoo.accounting import FLOAT, Term
from zoo.errors import UserError
from zoo.schema import Recipe
from zoo.sections import nearest_divisor
from zoo.train import layout
from zoo.train.budget import SPARE

WHOLE = ("head transform", "embeddings", "tail", "objective's own")  # products that the model axis does not share


class Machine(NamedTuple):
    """What a cluster is made of."""

    flops: float  # of a device, a second, as reached
    memory: float  # bytes of a device
    link: float  # bytes a second that a device sends to another node, and gets
    node_link: float  # the same inside a node
    node: int  # devices of a node


class Travel(NamedTuple):
    """What each device sends in an update along one axis of the mesh, and how long that takes."""

    axis: str
    what: str
    arithmetic: str
    value: float  # bytes
    seconds: float


class MeshCosts:
    """One update of a recipe, whose mesh (None = all share the rows) is laid over so many devices.

    Raises:
        UserError: the mesh does not multiply to the devices, or the rows of an update do not spread over it.
    """

    def __init__(self, recipe: Recipe, devices: int, machine: Machine):
        self.recipe, self.devices, self.machine = recipe, devices, machine
        self.sizes = layout.sizes(recipe.mesh, devices)
        self.data, self.fsdp, self.model = self.sizes.values()
        self.shares = self.data * self.fsdp  # of the rows
        if recipe.mesh is not None and recipe.streams % self.shares:
            what = "streams" if recipe.train.streams else "rows of an update"
            raise UserError(
                f"the {recipe.streams} {what} do not spread over data {self.data} x fsdp {self.fsdp} = {self.shares}"
                f" devices; nearest that do: {nearest_divisor(self.shares, recipe.streams)}"
            )
        # Of the device with the most, which all others wait for; a stream stays on its device.
        self.rows = -(-recipe.rows_per_update // min(self.shares, recipe.streams))
        self.half = recipe.train.precision != "float32"
        self.weights = accounting.weights(recipe)

    @cached_property
    def held(self) -> int:
        """Weights, as numbers, of one device."""
        return sum(prod(shape) // layout.parts(name, shape, self.sizes) for name, shape in self.weights.items())

    @cached_property
    def computed_with(self) -> dict[str, int]:
        """How many numbers of each weight a device computes with: those that the model axis leaves it."""
        alone = self.sizes | {"fsdp": 1}
        return {name: prod(shape) // layout.parts(name, shape, alone) for name, shape in self.weights.items()}

    def memory(self, rows: int) -> list[Term]:
        """Bytes of one device with so many rows at once, in the terms of accounting.memory."""
        copies = 1 if rows >= self.rows else 2
        sums = "" if copies == 1 else " x 2 (the sum over micro-batches beside the newest)"
        number, gathered = 2 if self.half else FLOAT, sum(self.computed_with.values())
        at_most = ", at most: all gathered at once" if self.fsdp > 1 else ""
        copy = Term("compute copy", f"{number} x {gathered:,}{at_most}", number * gathered)
        kept = [accounting.remembered(self.recipe, self.half)] if self.recipe.model.memory else []
        return [
            Term("libraries", "measured: code, buffers, compiled functions", accounting.LIBRARY_BYTES),
            Term("weights", f"4 x {self.held:,}", FLOAT * self.held),
            *([copy] if self.half or self.fsdp > 1 else []),
            Term("gradients", f"4 x {self.held:,}{sums}", FLOAT * self.held * copies),
            Term("Adam's two slots", f"8 x {self.held:,}", 2 * FLOAT * self.held),
            *kept,
            accounting.activations(self.recipe, rows, self.half, self.model),
        ]

    def needed(self, rows: int) -> float:
        """Bytes of a device that are safe for so many rows at once: what is counted is right to within a third."""
        return SPARE * sum(term.value for term in self.memory(rows))

    @cached_property
    def fits(self) -> bool:
        """Whether a device can train at all: one row at once."""
        return self.needed(1) <= self.machine.memory

    @cached_property
    def rows_at_once(self) -> int:
        """Of one device: as many as fit, in equal micro-batches; one where not even that fits."""
        most = min(self.rows, max(1, self.recipe.streams // self.shares))  # a stream has one row in a micro-batch
        fitting = bisect_left(range(1, most + 1), True, key=lambda rows: self.needed(rows) > self.machine.memory)
        return -(-self.rows // -(-self.rows // max(1, fitting)))

    @property
    def passes(self) -> int:
        """Micro-batches of an update."""
        return -(-self.rows // self.rows_at_once)

    @cached_property
    def compute(self) -> float:
        """Seconds of matrix products of one device."""
        shared = sum(term.value for term in self.products.terms if self._is_shared(term))
        whole = self.products.per_token - shared
        return self.rows * self.recipe.row_tokens * (shared / self.model + whole) / self.machine.flops

    @property
    def words_are_shared(self) -> bool:
        """Whether the model axis divides the vocabulary."""
        return self.model > 1 and self.recipe.tokenizer.size % self.model == 0

    def _is_shared(self, term: Term) -> bool:
        return self.words_are_shared if term.what == "vocabulary" else not term.what.startswith(WHOLE)

    @cached_property
    def products(self) -> accounting.Flops:
        """Of a token, on however many devices."""
        return accounting.flops(self.recipe)

    @cached_property
    def travels(self) -> list[Travel]:
        """Everything that devices send in an update; of axes of one device nothing.

        data: each device's share of the gradients is added up in a ring (Patarasuk and Yuan 2009). With a mesh every
        micro-batch ends in that sum (zoo/train/step_jax.py); without one only the last (zoo/train/step.py).
        fsdp: weights are gathered on the way forward and again on the way back, gradients added up and scattered
        (Rajbhandari et al. 2020, sections 5.3 and 7.2.2); a weight that fsdp does not divide is added up whole.
        model: two sums of [rows, tokens, width] for each sublayer, forwards behind its last product and backwards
        behind the first (Shoeybi et al. 2019, section 3).
        """
        sent, number = accounting.sent_bytes(self.recipe), 2 if self.half else FLOAT
        cut = [name for name, shape in self.weights.items() if "fsdp" in layout.axes(name, shape, self.sizes)]
        gathered = sum(self.computed_with[name] for name in cut)
        whole = sum(self.computed_with.values()) - gathered
        recipe, layers, encoder = self.recipe, self.recipe.model.layers, self.recipe.model.encoder_layers
        states = self.rows, accounting.passing(recipe), recipe.model.width
        sums = 2 * (2 * layers + 2 * encoder + (layers if encoder else 0))
        found = [
            self._travel("data", "gradients", 2, self.passes if recipe.mesh else 1, sent, self.held),
            self._travel("fsdp", "weights", 2, self.passes, number, gathered),
            self._travel("fsdp", "gradients", 1, self.passes, sent, gathered),
            self._travel("fsdp", "whole gradients", 2, self.passes, sent, whole),
            self._travel("model", "blocks", 2, sums, number, *states),
        ]
        if self.words_are_shared:  # looked up on the way forward, scored on the way back
            places = recipe.row_tokens + accounting.predicted(recipe)
            found.append(self._travel("model", "vocabulary", 2, 1, number, self.rows, places, recipe.model.width))
        return [travel for travel in found if travel.value]

    def _travel(self, axis: str, what: str, ways: int, times: int, number: int, *size: int) -> Travel:
        """ways: 2 where a ring adds up and hands round, 1 where once round does; number: bytes of each of `size`."""
        n = self.sizes[axis]
        value = ways * (n - 1) / n * times * number * prod(size)
        repeated = f"{times} x " if times > 1 else ""
        arithmetic = f"{ways} x {n - 1} / {n} x {repeated}{number} bytes x {' x '.join(f'{each:,}' for each in size)}"
        return Travel(axis, what, arithmetic, value, value / self.link(axis))

    def link(self, axis: str) -> float:
        """Bytes a second along an axis: of a node's own links where its devices are neighbours in one."""
        within = prod(self.sizes[other] for other in layout.AXES[layout.AXES.index(axis) :])
        return self.machine.node_link if self.machine.node % within == 0 else self.machine.link

    @property
    def hidden(self) -> float:
        """Seconds of travelling that computing may hide: a block's weights and gradients while others are at work."""
        return sum(travel.seconds for travel in self.travels if travel.axis != "model")

    @property
    def waited(self) -> float:
        """Seconds of travelling that every device waits for: the next product needs what comes."""
        return sum(travel.seconds for travel in self.travels if travel.axis == "model")

    @property
    def step(self) -> float:
        """Seconds of an update in which nothing is hidden."""
        return self.compute + self.waited + self.hidden

    @property
    def efficiency(self) -> float:
        """The speed of the mesh, by that of one device that nobody waits for, by the number of devices."""
        tokens = self.recipe.rows_per_update * self.recipe.row_tokens
        return tokens * self.products.per_token / self.machine.flops / (self.devices * self.step)


def smallest(recipe: Recipe, devices: int, machine: Machine) -> MeshCosts | None:
    """The first mesh with which one row fits a device: data alone, then ever more fsdp, then model in a node too."""
    for model in _divisors(machine.node):
        if devices % model or recipe.model.heads % model or recipe.streams % (devices // model):
            continue
        for fsdp in _divisors(devices // model):
            mesh = {"data": devices // model // fsdp, "fsdp": fsdp, "model": model}
            found = MeshCosts(recipe.with_changes(mesh=mesh), devices, machine)
            if found.fits:
                return found
    return None


def most_devices(costs: MeshCosts, enough: float) -> int | None:
    """The most, by more and more data, that are at least that efficient; each has a row. None = not even data 1 is."""
    recipe, others = costs.recipe, costs.fsdp * costs.model
    found = None
    for data in _divisors(recipe.streams // costs.fsdp):
        grown = recipe if recipe.mesh is None else recipe.with_changes(mesh={"data": data})
        if MeshCosts(grown, data * others, costs.machine).efficiency >= enough:
            found = data * others
    return found


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
