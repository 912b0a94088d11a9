"""How a training is interrupted: at the end of a step, with a checkpoint."""

import signal
import threading
import time
from typing import Protocol

from ft_assets.stages.job import Report

_GRACE_SECONDS = 40.0
"""How long an interrupted training may take to end its step; the run waits a little longer for it."""
_SAME_SECONDS = 4.0
"""Ctrl-C reaches the worker from the terminal, and once more from the process that waits for it."""


class Interruptible(Protocol):
    """What says that the training is to end after this step."""

    asked: bool

    def __enter__(self) -> "Interruptible": ...
    def __exit__(self, *_: object) -> None: ...
    def step_ended(self) -> None:
        """The step in hand is done: what follows may take its time."""


class Interruption:
    """Inside this block Ctrl-C is only noted in `asked`, so that the step can be ended and saved.

    A second one, or a step that does not end, raises KeyboardInterrupt as usual. Elsewhere than in the
    main thread nothing is changed.
    """

    def __init__(self, report: Report) -> None:
        self.asked = False
        self._report = report
        self._since = 0.0

    def __enter__(self) -> "Interruption":
        self._here = threading.current_thread() is threading.main_thread()
        if self._here:
            self._before = signal.signal(signal.SIGINT, self._ask)
            self._alarm_before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        return self

    def __exit__(self, *_: object) -> None:
        if self._here:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGINT, self._before)
            signal.signal(signal.SIGALRM, self._alarm_before)

    def step_ended(self) -> None:
        """The step in hand is done: what follows may take its time."""
        if self._here:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _ask(self, *_: object) -> None:
        now = time.monotonic()
        if self.asked and now - self._since > _SAME_SECONDS:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self._since = True, now
            signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS)
            # In a thread: this may have come in the middle of a report.
            line = "interrupted: ending the step and saving it; Ctrl-C again stops at once"
            threading.Thread(target=self._report, args=[line]).start()
