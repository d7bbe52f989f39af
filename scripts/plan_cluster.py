"""What a cluster would make of a recipe: memory, time and efficiency on a mesh of devices, with the arithmetic.

    .venv/bin/python scripts/plan_cluster.py gpt2-small --workers 8 --gbps 100 --tflops 150
    .venv/bin/python scripts/plan_cluster.py gpt2-large --workers 64 --mesh data=4,fsdp=8,model=2 --gbps 100 \\
        --node-gbps 3600 --tflops 150

A worker is a device that does `--tflops` of matrix products for real (its peak times the MFU that `zoo bench` tells),
and whose link to other nodes moves `--gbps` in each direction. Neighbours in the mesh's last axes share a node. Without
a mesh all devices share the rows, as with TensorFlow's engine. What travels is what the papers count
(zoo/mesh_costs.py), not what a compiler was seen to send. The result is a model, not a measurement.
"""

import argparse
import math
import sys

from zoo.accounting import size
from zoo.errors import UserError
from zoo.mesh_costs import Machine, MeshCosts, most_devices, smallest
from zoo.progress import duration
from zoo.registry import recipe as find_recipe
from zoo.schema import Recipe

ENOUGH = 0.8  # efficiency below which more workers are poorly spent


def told(costs: MeshCosts) -> str:
    """A mesh, as `--mesh` takes it."""
    return ",".join(f"{axis}={count}" for axis, count in costs.sizes.items())


def memory(costs: MeshCosts) -> list[str]:
    """Of one device, term by term."""
    at_once, most = costs.rows_at_once, costs.machine.memory
    terms = costs.memory(at_once)
    needed = costs.needed(at_once)
    fits = "fits" if needed <= most else "not enough"
    return [
        f"memory      {size(needed, 'B')} with a third added, and a worker has {size(most, 'B')}: {fits};"
        f" rows at once: {at_once}, micro-batches: {costs.passes}",
        *(f"  {term.what:<17} {size(term.value, 'B'):>9}  {term.arithmetic}" for term in terms),
    ]


def travelling(costs: MeshCosts) -> list[str]:
    """What each device sends in an update, by axis."""
    return [
        f"{travel.axis:<11} {travel.what}: {travel.arithmetic} = {size(travel.value, 'B')}"
        f" / {size(costs.link(travel.axis), 'B')}/s = {duration(travel.seconds)}"
        + (", all wait for it" if travel.axis == "model" else ", may hide behind computing")
        for travel in costs.travels
    ]


def advice(costs: MeshCosts) -> list[str]:
    """Why this mesh is not enough, how many workers would help, and the smallest mesh that fits."""
    recipe, lines = costs.recipe, []
    most, words, best = recipe.streams, recipe.tokenizer.size, most_devices(costs, ENOUGH)
    if costs.shares > most:
        lines.append(f"not enough: {costs.shares - most} workers have no row; larger updates, or parallel layers")
    if costs.efficiency < ENOUGH:
        above = f"{best} is the most with which it stays above" if best else "as with any other data"
        lines.append(f"not enough: below {ENOUGH:.0%}; {above}")
    if costs.model > 1 and not costs.words_are_shared:
        near = -(-words // costs.model) * costs.model
        lines.append(f"vocabulary  not shared: model {costs.model} does not divide tokenizer.size {words}, but {near}")
    lines.append(
        f"help        up to {most // costs.fsdp * costs.fsdp * costs.model:,} workers have rows of this update"
        + (f", up to {best:,} at {ENOUGH:.0%} or above" if best else f", no number of them at {ENOUGH:.0%}")
    )
    fitting = smallest(recipe, costs.devices, costs.machine)
    lines.append(
        f"smallest    --mesh {told(fitting)} fits, with {size(fitting.needed(1), 'B')} for one row at once"
        if fitting
        else f"smallest    no mesh of {costs.devices} workers spreads the rows and fits; train.remat=true needs less"
    )
    return lines


def plan(costs: MeshCosts) -> list[str]:
    """The lines that are printed."""
    recipe, flops = costs.recipe, costs.machine.flops
    rows, tokens, updates = recipe.rows_per_update, recipe.row_tokens, recipe.train.updates
    per_token = costs.compute * flops / costs.rows / tokens
    parts = [("computing", costs.compute), *((f"{t.axis}: {t.what}", t.seconds) for t in costs.travels)]
    least = max(costs.compute, costs.hidden) + costs.waited
    step = costs.step
    largest = max(parts, key=lambda part: part[1])
    return [
        f"{recipe.name}, {costs.devices} workers, {told(costs)}: {rows} rows x {tokens} tokens an update,"
        f" {costs.rows} rows a worker at most",
        *memory(costs),
        f"computing   {costs.rows} x {tokens} tokens x {size(per_token, 'FLOP')} / {size(flops, 'FLOP')}/s"
        f" = {duration(costs.compute)}",
        *travelling(costs),
        f"an update   {' + '.join(duration(seconds) for _, seconds in parts)} = {duration(step)},"
        f" efficiency {costs.efficiency:.0%}; {duration(least)} where all hides that may",
        f"largest     {largest[0]}, {largest[1] / step:.0%} of it",
        f"all of it   {updates:,} updates x {duration(step)} = {duration(updates * step)}"
        f" ({rows * tokens / step:,.0f} tokens/s)",
        *advice(costs),
    ]


def with_mesh(recipe: Recipe, mesh: str) -> Recipe:
    """The recipe on a mesh that is given as data=4,fsdp=8,model=2; data may be left out."""
    sizes = (axis.partition("=")[::2] for axis in mesh.split(","))
    return recipe.with_changes(mesh={axis: int(count) if count.isdecimal() else count for axis, count in sizes})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--workers", type=int, required=True, help="devices")
    parser.add_argument("--mesh", help="data=4,fsdp=8,model=2; without it all devices share the rows")
    parser.add_argument("--gbps", type=float, required=True, help="of a worker's link, gigabits a second")
    parser.add_argument("--node", type=int, default=8, help="workers of a node (8)")
    parser.add_argument("--node-gbps", type=float, help="of a worker's link inside its node (--gbps)")
    parser.add_argument("--tflops", type=float, required=True, help="of a worker, as reached and not as sold")
    parser.add_argument("--memory", type=float, default=80, help="of a worker, GB (80)")
    given = parser.parse_args()
    for name, value in vars(given).items():
        if isinstance(value, int | float) and not 0 < value < math.inf:
            parser.error(f"--{name.replace('_', '-')} is {value}; it must be above 0")
    link, node_link = (gbps * 1e9 / 8 for gbps in (given.gbps, given.node_gbps or given.gbps))
    machine = Machine(given.tflops * 1e12, given.memory * 1e9, link, node_link, given.node)
    try:
        recipe = find_recipe(given.recipe)
        recipe = with_mesh(recipe, given.mesh) if given.mesh else recipe
        print("\n".join(plan(MeshCosts(recipe, given.workers, machine))))
    except UserError as error:
        print(f"plan_cluster: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
