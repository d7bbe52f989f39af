"""Saving beside training."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from zoo.progress import say


class Saver:
    """Saves in a thread, one at a time. A save that the disk refuses is told, and training goes on."""

    def __init__(self) -> None:
        self._running: tuple[int, Future[None]] | None = None

    @property
    def busy(self) -> bool:
        """Whether a save is running."""
        return self._running is not None and not self._running[1].done()

    def begin(self, step: int, save: Callable[[], None]) -> None:
        """Starts to save what there is after update `step`, once the save before it has ended."""
        self.wait()
        worker = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._running = step, worker.submit(save)
        worker.shutdown(wait=False)  # the thread ends with its work

    def look(self) -> None:
        """Tells of a save that has failed since the last look."""
        if not self.busy:
            self.wait()

    def wait(self) -> None:
        """Waits for the save that is running, if one is."""
        if self._running is None:
            return
        (step, future), self._running = self._running, None
        try:
            future.result()
        except OSError as error:
            say(f"warning: the checkpoint after update {step} could not be written ({error})")
