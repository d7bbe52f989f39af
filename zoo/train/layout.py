"""Where the parts of a weight live on a mesh of devices; without any library of devices, so that plans can ask too.

The axes of a mesh: `data`, whose devices share the rows of an update and hold equal weights; `fsdp`, whose devices
share the rows too, and each weight with its gradient and Adam's slots (Rajbhandari et al. 2020, stage 3); `model`,
whose devices have the same rows and share the heads, the inner width and the vocabulary (Shoeybi et al. 2019).
"""

import math

from zoo.errors import UserError
from zoo.sections import Mesh, nearest_divisor

AXES = ("data", "fsdp", "model")
ROWS = ("data", "fsdp")  # that rows are spread over

# Which axis of a weight the model axis cuts, by the end of its name: a projection into heads or into the inner width by
# columns, the one that leads back by rows, so that between the two nothing travels.
CUT = {
    "attend.q.kernel": 1,
    "attend.k.kernel": 1,
    "attend.v.kernel": 1,
    "attend.r.kernel": 1,
    "cross.q.kernel": 1,
    "cross.k.kernel": 1,
    "cross.v.kernel": 1,
    "inner.up.kernel": 1,
    "attend.q.bias": 0,
    "attend.k.bias": 0,
    "attend.v.bias": 0,
    "cross.q.bias": 0,
    "cross.k.bias": 0,
    "cross.v.bias": 0,
    "inner.up.bias": 0,
    "attend.out.kernel": 0,
    "cross.out.kernel": 0,
    "inner.down.kernel": 0,
    "content_bias": 0,
    "position_bias": 0,
    "segment_bias": 0,
    "attend.segment": 1,
    "embed.token.table": 0,
    "head.bias": 0,
}


def axes(name: str, shape: tuple[int, ...], mesh: dict[str, int]) -> tuple[str | None, ...]:
    """For every axis of a weight (or of its slots) the axis of the mesh that cuts it, None = it is whole.

    fsdp cuts the longest axis that is left and that it divides; what no axis divides is whole on every device.
    """
    chosen: list[str | None] = [None] * len(shape)
    cut = next((axis for end, axis in CUT.items() if name.endswith(end)), None)
    if cut is not None and mesh["model"] > 1 and shape[cut] % mesh["model"] == 0:
        chosen[cut] = "model"
    free = [axis for axis, size in enumerate(shape) if chosen[axis] is None and size % mesh["fsdp"] == 0]
    if free and mesh["fsdp"] > 1:
        chosen[max(free, key=lambda axis: shape[axis])] = "fsdp"
    return tuple(chosen)


def parts(name: str, shape: tuple[int, ...], mesh: dict[str, int]) -> int:
    """Into how many parts a weight is cut."""
    return math.prod(mesh[axis] for axis in axes(name, shape, mesh) if axis is not None)


def sizes(mesh: Mesh | None, devices: int) -> dict[str, int]:
    """How many devices each axis has; without a mesh all share the rows.

    Raises:
        UserError: the axes do not multiply to the devices that are there.
    """
    mesh = mesh or Mesh()
    others = mesh.fsdp * mesh.model
    data = mesh.data or max(1, devices // others)
    if data * others != devices:
        fills = f"data: {devices // others} would fill them"
        if devices % others:
            fills = f"nearest fsdp x model that divides them: {nearest_divisor(others, devices)}"
        raise UserError(
            f"mesh data {data} x fsdp {mesh.fsdp} x model {mesh.model} = {data * others} devices,"
            f" and there are {devices}; {fills}"
        )
    return {"data": data, "fsdp": mesh.fsdp, "model": mesh.model}
