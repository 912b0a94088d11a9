"""Several corpora at once, a process each: they share neither the interpreter's lock nor a crash."""

import json
import signal
import subprocess
import threading
import time

from ft_assets.children import launched, python, start
from ft_assets.cli.progress import Progress
from ft_assets.errors import INTERRUPTED, gravest


def refresh_side_by_side(
    corpora: list[str], until: str, progress: Progress, *, force: bool, jobs: int
) -> int:
    """Refreshes up to `jobs` corpora at once; returns the gravest exit code.

    An interrupt is passed on to all of them and ends them all.
    """
    waiting, running, codes = list(corpora), dict[str, _Child](), [0]
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                corpus = waiting.pop(0)
                running[corpus] = _Child(corpus, until, progress, force)
            time.sleep(0.1)
            for corpus in [name for name, child in running.items() if child.is_over()]:
                codes.append(running.pop(corpus).end(progress))
    except KeyboardInterrupt:
        for child in running.values():
            child.interrupt()
        codes += [child.end(progress) for child in running.values()] + [INTERRUPTED]
    return gravest(*codes)


class _Child:
    """`ft-assets refresh` of one corpus in a process of its own."""

    def __init__(self, corpus: str, until: str, progress: Progress, force: bool) -> None:
        command = python("ft_assets.cli", "refresh", corpus, "--until", until)
        self._corpus = corpus
        command += ["--json", *(["--force"] if force else [])]
        self._process = start(
            "refresh",
            launched("refresh", command),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,  # a terminal's interrupt comes through us, once
        )
        self._said = ""
        self._readers = [
            threading.Thread(target=self._keep),
            threading.Thread(target=self._pass, args=[progress]),
        ]
        for reader in self._readers:
            reader.start()

    def _keep(self) -> None:
        self._said = self._process.stdout.read() if self._process.stdout else ""

    def _pass(self, progress: Progress) -> None:
        for line in self._process.stderr or ():
            progress.line(self._corpus, line.rstrip("\n"))

    def is_over(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def interrupt(self) -> None:
        """Asks the process to end."""
        self._process.send_signal(signal.SIGINT)

    def end(self, progress: Progress) -> int:
        """Waits for the process, takes over its results, and returns its exit code."""
        code = self._process.wait()
        for reader in self._readers:
            reader.join()
        if self._said:
            progress.add(json.loads(self._said))
        elif code not in (0, 1):
            progress.fail(self._corpus, None, f"the process exited with code {code} and no output")
        return code if code >= 0 else 3
