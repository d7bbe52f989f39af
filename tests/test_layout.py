"""Which part of a weight lives where on a mesh, and what a mesh makes of a recipe."""

import json
import re
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax_side import MESHES, divisible
from shrunk import FAMILIES

from zoo import accounting
from zoo.accounting import LIBRARY_BYTES, share_of
from zoo.errors import UserError
from zoo.mesh_costs import Machine, MeshCosts, most_devices, smallest
from zoo.registry import recipe, recipes
from zoo.sections import Mesh
from zoo.train import layout

NAMES = st.sampled_from([*(f"blocks.0.{end}" for end in layout.CUT), "final_norm.scale", "embed.position.table"])
SHAPES = st.lists(st.integers(1, 60), min_size=2, max_size=3).map(tuple)
SIZES = st.fixed_dictionaries(dict.fromkeys(layout.AXES, st.integers(1, 8)))
NODES = Machine(flops=1e14, memory=80e9, link=1e10, node_link=1e11, node=8)


# --- the layout


@given(NAMES, SHAPES, SIZES)
def test_parts_of_a_weight_are_equal_and_no_axis_cuts_twice(
    name: str, shape: tuple[int, ...], mesh: dict[str, int]
) -> None:
    axes = layout.axes(name, shape, mesh)
    assert len(axes) == len(shape)
    named = [axis for axis in axes if axis is not None]
    assert len(named) == len(set(named))
    assert "data" not in named
    part = [size // (mesh[axis] if axis else 1) for size, axis in zip(shape, axes, strict=True)]
    assert layout.parts(name, shape, mesh) * prod(part) == prod(shape)


@pytest.mark.parametrize(
    "name, shape, mesh, axes",
    [
        ("blocks.0.attend.q.kernel", (32, 32), (1, 4, 2), ("fsdp", "model")),
        ("blocks.0.inner.down.kernel", (128, 32), (1, 4, 2), ("model", "fsdp")),
        ("blocks.0.attend.q.kernel", (32, 33), (1, 4, 2), ("fsdp", None)),  # heads that model does not divide
        ("blocks.0.attend_norm.scale", (32,), (8, 1, 1), (None,)),
        ("embed.token.table", (101, 32), (1, 4, 2), (None, "fsdp")),
        ("embed.position.table", (24, 32), (1, 4, 2), (None, "fsdp")),  # the longest
        ("blocks.0.attend.segment", (2, 4, 8), (1, 8, 4), (None, "model", "fsdp")),
    ],
)
def test_what_cuts_a_weight(
    name: str, shape: tuple[int, ...], mesh: tuple[int, ...], axes: tuple[str | None, ...]
) -> None:
    assert layout.axes(name, shape, dict(zip(layout.AXES, mesh, strict=True))) == axes


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8))
def test_data_is_what_the_other_axes_leave(data: int, fsdp: int, model: int) -> None:
    found = layout.sizes(Mesh(fsdp=fsdp, model=model), data * fsdp * model)
    assert found == {"data": data, "fsdp": fsdp, "model": model}
    assert found == layout.sizes(Mesh(data=data, fsdp=fsdp, model=model), data * fsdp * model)


def test_without_a_mesh_all_devices_share_the_rows() -> None:
    assert layout.sizes(None, 6) == {"data": 6, "fsdp": 1, "model": 1}


@pytest.mark.parametrize(
    "mesh, devices, message",
    [
        (Mesh(data=3, model=2), 8, "data 3 x fsdp 1 x model 2 = 6 devices, and there are 8; data: 4 would fill them"),
        (Mesh(fsdp=3), 8, "data 2 x fsdp 3 x model 1 = 6 devices, and there are 8; nearest fsdp x model that divides"),
        (Mesh(fsdp=4, model=4), 8, "data 1 x fsdp 4 x model 4 = 16 devices, and there are 8; nearest fsdp x model"),
    ],
)
def test_a_mesh_that_is_not_all_devices(mesh: Mesh, devices: int, message: str) -> None:
    with pytest.raises(UserError, match=f"^mesh {re.escape(message)}") as found:
        layout.sizes(mesh, devices)
    assert "\n" not in str(found.value)


# --- bytes of a device


def test_a_device_holds_the_bytes_that_are_planned() -> None:
    """Of weights, and twice as many of Adam's slots: the engine's arrays on the first of 8 virtual devices."""
    pytest.importorskip("jax", reason="the extra jax is not installed")
    from test_jax import on_jax

    there = on_jax("held", json.dumps(FAMILIES), devices=8)
    for name in FAMILIES:
        for mesh, (weights, slots) in zip(MESHES, there[name], strict=True):
            costs = MeshCosts(divisible(name).with_changes(mesh=mesh), 8, NODES)
            assert 4 * costs.held == weights, (name, mesh)
            assert {term.what: term.value for term in costs.memory(1)}["Adam's two slots"] == slots, (name, mesh)


@pytest.mark.parametrize("name", recipes())
def test_a_mesh_of_one_device_needs_what_the_recipe_does(name: str) -> None:
    found = recipe(name).with_changes(mesh={}, train={"precision": "float32"})
    costs = MeshCosts(found, 1, NODES)
    assert costs.memory(1) == accounting.memory(found, 1, half=False)
    assert costs.travels == []
    assert costs.efficiency == 1


def test_activations_are_shared_as_far_as_heads_inner_and_words_are() -> None:
    found = divisible("bert-base")  # width 32, inner 28, 2 heads, rows of 24 tokens, 104 words
    block = 24 * (8 * 32 + 4 * (5 * 32 + (4 * 32 + 2 * 28) // 2) + 24)  # one head's dropped weights
    logits = 2 * 4 * 104 // 2 * accounting.predicted(found)
    assert accounting.activations(found, 3, half=False, shared_by=2).value == 3 * (2 * block + logits)
    assert share_of(28, 3) == 28


# --- what travels


def test_what_travels_is_what_the_papers_count() -> None:
    found = divisible("gpt2-small").with_changes(mesh={"data": 2, "fsdp": 2, "model": 2})
    costs = MeshCosts(found, 8, NODES)
    sent = {(travel.axis, travel.what): travel.value for travel in costs.travels}
    whole = 2 * (3 * 16 + 14)  # halves of the biases of q, k, v and up: model has cut their only axis
    gathered = sum(costs.computed_with.values()) - whole
    assert sent == {
        ("data", "gradients"): 4 * costs.held,  # 2 x 1/2
        ("fsdp", "weights"): 2 / 2 * 4 * gathered,
        ("fsdp", "gradients"): 1 / 2 * 4 * gathered,
        ("fsdp", "whole gradients"): 2 / 2 * 4 * whole,
        ("model", "blocks"): 4 * 2 * (4 * 2 * 24 * 32),  # 4 sums a layer, of 2 layers, of 2 rows
        ("model", "vocabulary"): 2 * (4 * 2 * 24 * 32),  # 2 sums
    }
    assert costs.held == gathered / 2 + whole
    assert costs.step == pytest.approx(costs.compute + sum(travel.seconds for travel in costs.travels))


def test_axes_inside_a_node_have_its_links() -> None:
    costs = MeshCosts(recipe("gpt2-large").with_changes(mesh={"fsdp": 4, "model": 2}), 64, NODES)
    assert [costs.link(axis) for axis in layout.AXES] == [1e10, 1e11, 1e11]
    wide = MeshCosts(recipe("gpt2-large").with_changes(mesh={"fsdp": 8, "model": 2}), 64, NODES)
    assert [wide.link(axis) for axis in layout.AXES] == [1e10, 1e10, 1e11]


def test_micro_batches_send_again() -> None:
    """With a mesh; without one gradients are added up after the last of them."""
    small = NODES._replace(memory=24e9)
    meshed, plain = (MeshCosts(recipe("gpt2-small").with_changes(mesh=mesh), 8, small) for mesh in ({"fsdp": 1}, None))
    assert meshed.passes == plain.passes > 1
    assert meshed.needed(meshed.rows_at_once) <= 24e9
    assert meshed.rows_at_once * meshed.passes >= meshed.rows == 64
    assert meshed.travels[0].value == meshed.passes * plain.travels[0].value


# --- which mesh


def test_the_smallest_mesh_shares_no_more_than_it_must() -> None:
    found = recipe("gpt2-large")
    fitting = [smallest(found, 64, NODES._replace(memory=gb * 1e9)) for gb in (80, 24, 6)]
    meshes = [costs and tuple(costs.sizes.values()) for costs in fitting]
    assert meshes[0] == (64, 1, 1)
    data, fsdp, model = meshes[1] or (0, 0, 0)
    assert data * fsdp == 64
    assert (fsdp > 1, model) == (True, 1)
    less = found.with_changes(mesh={"data": data * 2, "fsdp": fsdp // 2})
    assert not MeshCosts(less, 64, NODES._replace(memory=24e9)).fits
    assert meshes[2] is None or meshes[2][2] > 1
    assert smallest(found, 64, NODES._replace(memory=LIBRARY_BYTES)) is None


def test_the_most_devices_are_efficient_and_have_rows() -> None:
    found = recipe("gpt2-small")
    most = most_devices(MeshCosts(found, 8, NODES), 0.8)
    assert most is not None
    assert MeshCosts(found, most, NODES).efficiency >= 0.8 > MeshCosts(found, 2 * most, NODES).efficiency
    fast = NODES._replace(link=1e15, node_link=1e15)
    assert most_devices(MeshCosts(found, 8, fast), 0.8) == 512
    assert most_devices(MeshCosts(found.with_changes(mesh={"fsdp": 8}), 8, NODES._replace(node_link=1e3)), 0.8) is None


def test_rows_that_do_not_spread_are_refused() -> None:
    with pytest.raises(UserError, match="512 rows of an update do not spread over data 32 x fsdp 3 = 96 devices;"):
        MeshCosts(recipe("gpt2-small").with_changes(mesh={"fsdp": 3}), 96, NODES)
    streams = recipe("gpt2-small").with_changes(data={"rows": "stream"}, train={"streams": 4}, mesh={"fsdp": 8})
    with pytest.raises(UserError, match="4 streams do not spread over data 1 x fsdp 8 = 8 devices; nearest that do: 4"):
        MeshCosts(streams, 8, NODES)
