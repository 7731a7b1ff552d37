"""Baseline, bank, ladder and scoring of many models, stepped together; models are columns here, without names."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.core.detection import bank, ladder, tail
from pipeline.core.detection.bank import Bank
from pipeline.core.detection.baseline import Baseline, Residuals
from pipeline.core.detection.explanation import Scene, accuse, explain, unwatched
from pipeline.core.detection.finding import Finding
from pipeline.core.detection.ladder import Ladder
from pipeline.core.detection.moment import WINDOWS_PER_HOUR, Moment
from pipeline.core.detection.recovery import Recovery
from pipeline.core.detection.scoring import BANK, FAMILIES, LADDER, Scoring
from pipeline.core.detection.signals import (
    CHANNEL_OF_SIGNAL,
    CHANNELS,
    OTHER_SEAT,
    SIGNALS,
    SIGNALS_OF_CHANNEL,
    Channel,
    Signal,
    Signals,
)
from pipeline.core.detection.state import Arrays, Bools, Floats, Ints

CHUNK = 512  # models worked on at once, so that what they need stays in the processor's cache
_ABOVE_SHARE = 0.15  # of the members' hours, for their tails
_OVER = 8.0  # units of surprise that evidence may exceed its threshold by: an alert must not end by chance
_GROWN = max(bank.NEED.max(), ladder.NEED.max())  # age from which every member may speak
_SILENT = np.float32(-1e9)  # the score of a member that may not speak yet
_CHANNEL_OF_MEMBER = CHANNEL_OF_SIGNAL[bank.SIGNAL_OF_MEMBER]

Told = list[tuple[int, Finding]]  # (column, what is said about it)


class Judgement:
    """The state of all models of a partition."""

    def __init__(self, asked_per_model_week: float) -> None:
        self._asked = asked_per_model_week
        self._baseline, self._bank, self._ladder = Baseline(), Bank(), Ladder()
        self._scoring, self._recovery = Scoring(asked_per_model_week), Recovery()
        self._parts = {
            "baseline": self._baseline.state,
            "bank": self._bank.state,
            "ladder": self._ladder.state,
            "scoring": self._scoring.state,
            "recovery": self._recovery.state,
        }
        self._bank_work = np.empty((bank.MEMBERS, CHUNK), np.float32)
        self._ladder_work = np.empty((ladder.SCALES, SIGNALS, CHUNK), np.float32)
        self._scores = np.empty((len(FAMILIES), CHANNELS, CHUNK), np.float32)

    @property
    def bytes_per_model(self) -> int:
        """What a model costs in memory."""
        return sum(state.key_bytes for state in self._parts.values())

    @property
    def breaches(self) -> Bools:
        """What is going on: (channels, models)."""
        return self._scoring.state["breached"]

    def add(self, count: int) -> None:
        """New models, in the columns after the last."""
        for name in ("baseline", "bank", "ladder", "recovery"):
            self._parts[name].add(count)
        self._scoring.add(count)

    def keep(self, columns: Ints) -> None:
        """Only these."""
        for state in self._parts.values():
            state.keep(columns)

    def pack(self, columns: Ints) -> dict[str, dict[str, bytes]]:
        """Their state, bit by bit."""
        return {name: state.pack(columns) for name, state in self._parts.items()}

    def unpack(self, packed: Mapping[str, Mapping[str, bytes]], count: int) -> None:
        """Models of a `pack`, in the columns after the last."""
        for name, state in self._parts.items():
            state.unpack(packed[name], count)

    def step(self, index: int, window: Signals, masked: Bools) -> Told:
        """One window of all models."""
        moment, told = Moment.of(index), []
        for start in range(0, len(masked), CHUNK):
            end = min(start + CHUNK, len(masked))
            part = Signals(window.x[:, start:end], window.n[:, start:end])
            told += self._step_chunk(start, end, part, moment, masked[start:end])
        return told

    def accept(self, column: int, channels: Sequence[Channel]) -> None:
        """What is seen in these channels is what is expected from now on."""
        for channel in channels:
            self._baseline.accept(column, SIGNALS_OF_CHANNEL[channel])

    def breached(self, column: int, channel: Channel) -> bool:
        """Whether something is going on there."""
        return bool(self._scoring.state["breached"][channel, column])

    def surprise(self, column: int) -> float:
        """How strange the last window was."""
        return self._scoring.surprise(column)

    def young(self) -> Ints:
        """Models in their first hour."""
        return np.flatnonzero(self._baseline.state["age"] < WINDOWS_PER_HOUR)

    def quiet_for(self, windows: int) -> Ints:
        """Models without an inference for so long."""
        return np.flatnonzero(self._baseline.state["quiet"] >= windows)

    def class_shares(self, column: int) -> tuple[list[float], float]:
        """The usual share of each seat and of all others, and the usual detections of an hour."""
        state = self._baseline.state
        shares = state["profile"][:, Signal.CLASS :, column].mean(axis=0) * state["level"][Signal.CLASS :, column]
        return shares.tolist(), float(state["exposure"][Signal.CLASS, column]) * WINDOWS_PER_HOUR

    def seat(self, column: int, seat: int, share: float) -> None:
        """A seat got another class; all others lost one."""
        self._baseline.seat(column, Signal.CLASS + seat, share)
        self._baseline.accept(column, slice(Signal.CLASS + OTHER_SEAT, Signal.CLASS + OTHER_SEAT + 1))

    def dropped(self, index: int, columns: Ints) -> Told:
        """What to say of models that are forgotten while something is going on."""
        scoring = self._scoring.state
        return [
            (column, unwatched(index, channel, int(scoring["onset"][channel, column]), self._asked))
            for column in columns.tolist()
            for channel in np.flatnonzero(scoring["breached"][:, column]).tolist()
        ]

    def _step_chunk(self, start: int, end: int, window: Signals, moment: Moment, masked: Bools) -> Told:
        views = {name: state.view(start, end) for name, state in self._parts.items()}
        base, x, n = views["baseline"], window.x, window.n
        residuals = self._baseline.residuals(base, x, n, moment)
        member_scores, scale_scores, scores = self._score(views, residuals)
        began, ended = self._scoring.step(views["scoring"], scores)
        breached = views["scoring"]["breached"]
        told: Told = []
        if breached.any() or ended.any():
            scene = Scene(moment.index, window, residuals, views, member_scores, scale_scores, scores, self._asked)
            over = self._recover(scene, began)
            told = [(start + column, finding) for column, finding in explain(scene, began, ended | over)]
            self._restart(views, over)
        relearning = base["relearn"] > 0
        learns = (~breached[CHANNEL_OF_SIGNAL] | relearning) & ~masked
        self._baseline.learn(base, x, n, moment, residuals, learns)
        self._ladder.learn(views["ladder"], learns & residuals.judged, base["age"], moment.index)
        views["scoring"]["skip_hour"] |= masked
        if relearning.any():
            self._bank.hold(views["bank"], relearning)
            self._ladder.hold(views["ladder"], relearning)
        if moment.ends_hour:
            self._end_hour(views)
        return told

    def _recover(self, scene: Scene, began: Bools) -> Bools:
        """Which alerts are over, as what they are about is as expected again. Accuses somebody of those that begin."""
        breached = scene.views["scoring"]["breached"]
        over = np.zeros_like(breached)
        channels, columns = np.nonzero(breached & ~began)
        if len(columns):
            cells = channels, columns
            over[cells] = self._recovery.step(scene.views["recovery"], cells, scene.residuals)
            breached &= ~over
        accuse(scene, began, self._recovery)
        return over

    def _restart(self, views: Mapping[str, Arrays], over: Bools) -> None:
        """What an alert was raised by starts anew after it; while it lasts, evidence does not pile up for ever."""
        scoring, anew = views["scoring"], over[CHANNEL_OF_SIGNAL]
        most = scoring["threshold"][BANK] + _OVER / scoring["slope"][BANK]
        self._bank.cap(views["bank"], scoring["breached"], most)
        scoring["calm"][over] = 0
        if over.any():
            self._bank.hold(views["bank"], anew)
            self._ladder.hold(views["ladder"], anew)

    def _score(self, views: Mapping[str, Arrays], residuals: Residuals) -> tuple[Floats, Floats, Floats]:
        count, age = residuals.z.shape[1], views["baseline"]["age"]
        scores = self._scores[..., :count]
        of_members = self._bank.step(views["bank"], residuals, self._bank_work[:, :count])
        of_scales = self._ladder.step(views["ladder"], residuals, self._ladder_work[..., :count])
        if age.min() < _GROWN:
            of_members += (age < bank.NEED) * _SILENT
            of_scales += (age < ladder.NEED) * _SILENT
        bank.channel_maxima(of_members, scores[BANK])
        ladder.channel_maxima(of_scales, scores[LADDER])
        return of_members, of_scales, scores

    def _end_hour(self, views: Mapping[str, Arrays]) -> None:
        thresholds = views["scoring"]["threshold"].copy()
        taught, hours = self._scoring.end_hour(views["scoring"], views["baseline"]["age"])
        members = (
            (views["bank"], _CHANNEL_OF_MEMBER, thresholds[BANK]),
            (views["ladder"], CHANNEL_OF_SIGNAL, thresholds[LADDER]),
        )
        for view, channels, limits in members:
            # No more than what made the alert, as in the channel's own tail.
            maxima = np.minimum(view["hour_max"], (limits[channels] - view["at_zero"]) / view["slope"])
            tail.learn(view, maxima, hours[channels], taught[channels], _ABOVE_SHARE)
            view["hour_max"][...] = 0
