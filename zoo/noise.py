"""Random numbers of a row: a pure function of (seed, update, site, row).

One Philox stream belongs to each (seed, update, site); every row owns a fixed, equal stretch of it. A micro-batch that
starts at row `first` advances the stream to that row and draws all its rows at once, so how an update is split into
micro-batches or spread over processes changes no number.
"""

import zlib
from dataclasses import dataclass, replace

import numpy as np

BLOCK = 4  # Philox 4x64 gives four 64-bit numbers for one step of its counter


def site_code(site: str) -> int:
    """A stable 32-bit number for a name (Python's own hash differs from process to process)."""
    return zlib.crc32(site.encode())


@dataclass(frozen=True)
class Noise:
    """The noise of rows `first` to `first + count - 1` of one update."""

    seed: int
    update: int
    first: int
    count: int
    within: str = ""

    def under(self, name: str) -> "Noise":
        """The same rows' noise for the sites of one part."""
        return replace(self, within=f"{self.within}{name}.")

    def bits(self, site: str, *shape: int) -> np.ndarray:
        """[count, *shape] uint64, uniform."""
        size = int(np.prod(shape))
        blocks = -(-size // BLOCK)
        key = np.array([self.seed, self.update << 32 | site_code(self.within + site)], np.uint64)
        stream = np.random.Philox(key=key).advance(self.first * blocks)
        drawn = stream.random_raw(self.count * blocks * BLOCK).reshape(self.count, blocks * BLOCK)
        return drawn[:, :size].reshape(self.count, *shape)

    def uniform(self, site: str, *shape: int) -> np.ndarray:
        """[count, *shape] float64 in [0, 1)."""
        return (self.bits(site, *shape) >> np.uint64(11)) * 2.0**-53

    def integers(self, site: str, low: int, high: int, *shape: int) -> np.ndarray:
        """[count, *shape] int32 in [low, high)."""
        return (low + np.floor(self.uniform(site, *shape) * (high - low))).astype(np.int32)
