"""The bar that shows how far a fit has come."""

import sys

from .validation import flag

# A fit shorter than this, in seconds, shows no bar unless one is asked for.
DELAY = 1.0


class _NoBar:
    def update(self, batches, epoch, loss):
        pass

    def close(self):
        pass


class _Bar:
    def __init__(self, total, delay):
        from tqdm.auto import tqdm

        self._bar = tqdm(total=total, unit="batch", delay=delay)

    def update(self, batches, epoch, loss):
        self._bar.set_description(f"epoch {epoch}", refresh=False)
        self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        self._bar.update(batches)

    def close(self):
        self._bar.close()


def progress_bar(progress, epochs, batches):
    """True shows a bar, False none, None one on a terminal in a fit that lasts."""
    if progress is not None and flag(progress, "progress"):
        return _Bar(epochs * batches, 0.0)
    # stderr is None in a Windows program without a console.
    if progress is None and sys.stderr is not None and sys.stderr.isatty():
        return _Bar(epochs * batches, DELAY)
    return _NoBar()
