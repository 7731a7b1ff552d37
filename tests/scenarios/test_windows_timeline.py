"""Windows on a line of time: events, closings, late corrections, restarts from the low-water mark, drawn as text."""

import pytest

from pipeline.core.ledger.names import AggregatorName
from pipeline.core.windows.aggregation import Cut, PartitionAggregator
from pipeline.core.windows.log_clock import WINDOW_MS, LogClock, closed_through
from pipeline.core.windows.publication import records
from tests.builders import LIMITS, START_MS, batch, event

LATENESS_MS = 2000


class Story:
    """One partition, told a letter at a time.

    a b c   an event of the first, second, third window; its offset is its place in the log
    !       a record that is refused
    A B C   everything read so far goes out through the first, second, third window
    ~       the worker is gone; another one reads the log from the committed offset
    .       the worker leaves in order, and says what is done; another one takes over
    ,       another one takes over, and leaves in order before it has read anything
    """

    def __init__(self) -> None:
        self.log: list[bytes] = []
        self.committed = 0, AggregatorName.begin(0).metadata()
        self.made: dict[AggregatorName, list[tuple[int, bytes]]] = {}
        self.out: list[str] = []
        self.machine = PartitionAggregator(AggregatorName.begin(0), LIMITS)

    def tell(self, letters: str) -> str:
        """What happened: cuts as their windows and counts @ the committed offset; = a cut made again, the same."""
        for letter in letters.replace(" ", ""):
            if letter in "~.,":
                if letter == ",":
                    self.machine = PartitionAggregator(AggregatorName.parse(*self.committed), LIMITS)
                if letter in ".,":
                    self._commit(self.machine.done_name())
                self._take_over()
            elif letter.isupper():
                self._cut(START_MS + (ord(letter) - ord("A") + 1) * WINDOW_MS)
            else:
                self._write(letter)
        return " ".join(self.out)

    def _write(self, letter: str) -> None:
        self.log.append(b"{" if letter == "!" else event(event_time_ms=START_MS + (ord(letter) - ord("a")) * WINDOW_MS))
        self._read(len(self.log))

    def _read(self, to_offset: int) -> None:
        for offset in range(self.machine.next_offset, to_offset):
            self.machine.observe(batch([offset], [START_MS], [self.log[offset]]))

    def _commit(self, name: AggregatorName) -> None:
        self.committed = name.low, name.metadata()

    def _cut(self, through_ms: int) -> None:
        cut = self.machine.cut(through_ms, 2)
        if cut is None:
            self.out.append("-")
            return
        self._commit(cut.name)
        self.made[cut.name] = list(records(cut, 0))
        self.out.append(f"{self._draw(cut)}@{cut.name.low}")

    def _take_over(self) -> None:
        self.machine = PartitionAggregator(AggregatorName.parse(*self.committed), LIMITS)
        if self.machine.named is not None:
            self._read(self.machine.named.to_offset)
            again = self.machine.cut(0, 0)
            assert again is not None
            self.out.append("=" if list(records(again, 0)) == self.made[again.name] else f"!{self._draw(again)}")
        self._read(len(self.log))

    def _draw(self, cut: Cut) -> str:
        drawn = [
            f"{chr(ord('a') + (start - START_MS) // WINDOW_MS)}{models.numbers['inference_count'].sum()}"
            for start, models, _ in cut.windows
        ]
        return "".join(drawn) or "nothing"


@pytest.mark.parametrize(
    ("story", "letters", "out"),
    [
        ("a window goes out when it is closed", "aa A", "a2@0"),
        ("and only once", "aa A A B", "a2@0 - nothing@2"),
        ("an open window stays", "abab A B", "a2@0 b2@1"),
        ("several close at once", "abcb C", "a1b2c1@0"),
        ("late events are a correction", "aa A aab A B", "a2@0 a2@2 b1@4"),
        ("a correction waits for the next cut", "aa A aa B", "a2@0 a2@2"),
        ("a correction may be corrected", "a A a A a A", "a1@0 a1@1 a1@2"),
        ("events ahead of time wait, and hold the mark back", "caba A bB C", "a2@0 b2@0 c1@0"),
        ("the mark follows the oldest window that is open", "abca A aB", "a2@0 a1b1@1"),
        ("what is refused counts in no window, and is told by its cut", "!a! A !B", "a1@0 nothing@3"),
        ("closed windows do not open again", "ab B bA", "a1b1@0 b1@2"),
        # restarts
        ("a named cut is made again", "aab A ~", "a2@0 ="),
        ("then it goes on", "aab A ~ bB", "a2@0 = b2@2"),
        ("and again, if that one is gone too", "aab A ~~~ bB", "a2@0 = = = b2@2"),
        ("what was read but not named is read again", "aa A bb~ B", "a2@0 = b2@2"),
        ("nothing was named yet", "aa~ A", "a2@0"),
        ("from the mark, what is done is left out", "baab A a~ B", "a2@0 = a1b2@0"),
        ("corrections are made again", "aa A abA ~ B", "a2@0 a1@2 = b1@3"),
        ("a late event that came before the restart", "ab A a ~ A B", "a1@0 = a1@1 b1@1"),
        ("a late event that came after it", "ab A ~ aA B", "a1@0 = a1@1 b1@1"),
        ("the same late event is not new twice", "ab A aA ~ A B ~", "a1@0 a1@1 = - b1@1 ="),
        ("a far window survives every restart", "ca A ~ bB ~ C", "a1@0 = b1@0 = c1@0"),
        ("an empty cut is made again", "B ~ a B", "nothing@0 = a1@0"),
        # leaving in order
        ("who leaves has nothing to make again", "aab A . bB", "a2@0 b2@2"),
        ("what is pending is read again", "abc A . B . C", "a1@0 b1@1 c1@2"),
        ("leaving twice loses nothing", "abca A .. a.. B", "a2@0 a1b1@1"),
        ("who hardly came still knows what is pending", "abc A . ,, B C", "a1@0 b1@1 c1@2"),
        ("who hardly came leaves a named cut named", "aab A ,, bB", "a2@0 = = b2@2"),
        ("leaving and crashing", "aab A . b~ B ~ ", "a2@0 b2@2 ="),
    ],
)
def test_windows_go_out(story: str, letters: str, out: str) -> None:
    assert Story().tell(letters) == out, story


@pytest.mark.parametrize(
    ("story", "log", "closed"),
    [
        # A character is a second, ten a window. x: a record of the broker's time comes;  .: it is quiet;
        # -: quiet, and the log is not read to its end.  |: the first window closes, the second time the second one.
        ("two seconds after its end", "xxxxxxxxxxxxxx", "            | "),
        ("a busy log closes by its own time", "x-------------x", "              |"),
        ("a quiet log closes by the wall clock, a second behind", "x..............", "             | "),
        ("each window in its turn", "xxxxxxxxxxxxxxxxxxxxxxxx", "            |         | "),
        ("a log that is behind closes nothing", "x---------------------", "                      "),
        ("after a silence", "xx..........x", "            |"),
    ],
)
def test_windows_close(story: str, log: str, closed: str) -> None:
    clock, machine = LogClock(), PartitionAggregator(AggregatorName.begin(0), LIMITS)
    machine.cut(START_MS, 1)
    drawn, quiet_since = "", 0
    for second, letter in enumerate(log):
        now_ms = START_MS + second * 1000
        if letter == "x":
            machine.observe(batch([machine.next_offset], [now_ms], [event(event_time_ms=now_ms)]))
            clock.observe([now_ms], create_time=False, now_ms=now_ms)
        if letter != ".":
            quiet_since = now_ms
        through_ms = closed_through(clock.time_ms(now_ms, now_ms - quiet_since), LATENESS_MS)
        closes = through_ms > machine.closed_ms and machine.cut(through_ms, 1) is not None
        drawn += "|" if closes else " "
    assert drawn == closed, story


def test_a_device_whose_clock_is_wrong_delays_and_hurries_nobody_else() -> None:
    """It says that it is a minute later, and an hour earlier, than it is."""
    clock, machine = LogClock(), PartitionAggregator(AggregatorName.begin(0), LIMITS)
    for second, error_s in enumerate([0, 60, -3600] * 4):
        now_ms = START_MS + second * 1000
        machine.observe(batch([second], [now_ms], [event(event_time_ms=now_ms + error_s * 1000)]))
        clock.observe([now_ms], create_time=False, now_ms=now_ms)
    assert closed_through(clock.time_ms(START_MS + 12_000, 0), LATENESS_MS) == START_MS
    clock.observe([START_MS + 12_000], create_time=False, now_ms=START_MS + 12_000)
    cut = machine.cut(closed_through(clock.time_ms(START_MS + 12_000, 0), LATENESS_MS), 1)
    assert cut is not None
    by_window = {start - START_MS: int(models.numbers["inference_count"].sum()) for start, models, _ in cut.windows}
    assert by_window == {-3_600_000: 3, -3_590_000: 1, 0: 4}
