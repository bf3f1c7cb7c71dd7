"""Ctrl-C at the right moment."""

# The functions of `signal` turn numbers into enums and back, 2 us for each of the four calls of a fit.
import _signal
import threading


class Interrupts:
    """A `with` block whose inner blocks, `with interrupts.held`, Ctrl-C does not break: it comes when they end.

    Python runs a signal's handler between any two bytecodes of the main thread, so an interrupt may fall between an
    update of the parameters and the note that it was done. Only the Python handler is held back, by one that passes on
    to it: other threads, and processes that ignore Ctrl-C or die of it, see no difference.

    One handler for the whole block: to change it for each inner one took 20 us, a small update takes 5. From the start
    up to the end of the first inner block interrupts are held too, so that none comes before the handler can be undone.
    For the same reason the outer block has to end with `hold`, on every way out of it: an interrupt that broke the
    undoing would leave a handler behind that holds back all Ctrl-C to come.
    """

    def __init__(self):
        self.held = _Held(self)
        self._handler = self._arrived = None
        self._holding = True

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            handler = _signal.getsignal(_signal.SIGINT)
            if callable(handler):
                self._handler = handler
                _signal.signal(_signal.SIGINT, self._arrive)
        return self

    def __exit__(self, *_):
        # A callback may have set a handler of its own.
        if self._handler is not None and _signal.getsignal(_signal.SIGINT) == self._arrive:
            _signal.signal(_signal.SIGINT, self._handler)
        if self._arrived is not None:
            self._handler(*self._arrived)

    def _arrive(self, number, frame):
        if self._holding:
            self._arrived = number, frame
        else:
            # If this raises, a second one waits for the end of the inner block that cleans up after the first.
            self._holding = True
            self._handler(number, frame)
            self._holding = False

    def hold(self):
        """Begin to hold interrupts back."""
        self._holding = True

    def let_go(self):
        """Let interrupts through again, first of all one that has arrived."""
        arrived, self._arrived, self._holding = self._arrived, None, False
        if arrived is not None:
            self._arrive(*arrived)


class _Held:
    def __init__(self, interrupts):
        self._interrupts = interrupts

    def __enter__(self):
        self._interrupts.hold()

    def __exit__(self, *_):
        self._interrupts.let_go()
