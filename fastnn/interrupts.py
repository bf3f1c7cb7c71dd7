"""Ctrl-C at the right moment."""

import signal
import threading


class Uninterrupted:
    """A `with` block that Ctrl-C does not break in two: the interrupt comes when the block ends.

    Python runs a signal's handler between any two bytecodes of the main thread, so an interrupt may fall between an
    update of the parameters and the note that it was done. Only the Python handler is held back: other threads, and
    processes that ignore Ctrl-C or die of it, see no difference.
    """

    def __enter__(self):
        self._arrived = self._handler = None
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self._handler = handler
                signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number, frame):
        self._arrived = number, frame

    def __exit__(self, *_):
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            if self._arrived is not None:
                self._handler(*self._arrived)
