"""The real NumPy runner as a device would present it, and who listens to what the engine says."""

from collections import deque
from dataclasses import dataclass, replace


@dataclass
class _Later:
    runner: "Watched"
    rows: list

    def wait(self):
        assert self.runner.launched[0] is self  # tokens are read in the order of the launches
        self.runner.launched.popleft()
        return self.runner.compute(self.rows)


class Watched:
    """Writes down every call in `calls`. With `ahead` a launch is computed when it is waited for.

    Until then nobody may touch the slots of its rows: what is computed late would be computed wrong.
    """

    def __init__(self, runner, *, ahead=0):
        self.ahead = ahead
        self.calls = []
        self.launched = deque()
        self._runner = runner
        self._last = {}

    def __getattr__(self, name):
        return getattr(self._runner, name)

    def prefill(self, slot, tokens, start, params, check):
        self._untouched(slot)
        self.calls.append(("prefill", slot, start, len(tokens)))
        return self._runner.prefill(slot, tokens, start, params, check)

    def copy_prefix(self, source, target, length):
        self._untouched(target)
        self.calls.append(("copy", source, target, length))
        self._runner.copy_prefix(source, target, length)

    def launch(self, rows):
        assert len({row.slot for row in rows}) == len(rows) <= self.max_rows
        for row in rows:
            in_flight = [row.slot in {r.slot for r in launch.rows} for launch in self.launched]
            assert (row.token is None) == any(in_flight)
            assert not any(in_flight) or in_flight[-1]  # the launch just before drew it
        self.calls.append(("launch", *(row.slot for row in rows)))
        launch = _Later(self, list(rows))
        self.launched.append(launch)
        assert len(self.launched) <= self.ahead + 1
        return launch

    def compute(self, rows):
        known = [row if row.token is not None else replace(row, token=self._last[row.slot]) for row in rows]
        tokens = self._runner.launch(known).wait()
        ids = [0 if token is None else token.id for token in tokens]
        self._last = {row.slot: id_ for row, id_ in zip(rows, ids, strict=True)}
        return tokens

    def _untouched(self, slot):
        assert all(slot != row.slot for launch in self.launched for row in launch.rows)


class Heard:
    """A listener that keeps what became of a request."""

    def __init__(self, request):
        self.request = request
        self.pieces = []
        self.answer = None
        self.error = None

    def text(self, text):
        self.pieces.append(text)

    def finish(self, finish, rest):
        assert "".join(self.pieces) + rest == finish.text
        self.answer = finish

    def fail(self, error):
        self.error = error
