"""The bar that shows how far a fit has come."""

import sys

# A fit shorter than this, in seconds, shows no bar unless one is asked for.
DELAY = 1.0


class _NoBar:
    def update(self, batches, epoch, loss):
        pass

    def scores(self, numbers):
        pass

    def close(self):
        pass


class _Bar:
    def __init__(self, position, delay):
        from tqdm.auto import tqdm

        done = position.epoch * position.batches + position.batch
        self._bar = tqdm(total=position.epochs * position.batches, initial=done, unit="batch", delay=delay)
        self._scores = {}

    def update(self, batches, epoch, loss):
        """Batches are done; loss is that of the last one."""
        self._bar.set_description(f"epoch {epoch}", refresh=False)
        self._bar.set_postfix(loss=f"{loss:.4g}", **self._scores, refresh=False)
        self._bar.update(batches)

    def scores(self, numbers):
        """An epoch is done, with these numbers: show its loss, and until the next one ends its validation scores."""
        self._scores = {name: f"{number:.4g}" for name, number in numbers.items() if name.startswith("val_")}
        # No refresh here either: epochs may be shorter than the writing of a line.
        self._bar.set_postfix(loss=f"{numbers['loss']:.4g}", **self._scores, refresh=False)

    def close(self):
        self._bar.close()


def progress_bar(progress, position):
    """True shows a bar where there is a stderr, False none, None one on a terminal in a fit that lasts."""
    # stderr is None in a Windows program without a console, and closed in some that run in the background.
    if progress is False or sys.stderr is None or getattr(sys.stderr, "closed", False):
        return _NoBar()
    if progress:
        return _Bar(position, 0.0)
    return _Bar(position, DELAY) if sys.stderr.isatty() else _NoBar()
