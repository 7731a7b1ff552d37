"""Baseline, bank, ladder and scoring of many models, stepped together; models are columns here, without names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.detection import bank, ladder, tail
from pipeline.core.detection.anomaly import Deviation
from pipeline.core.detection.bank import Bank
from pipeline.core.detection.baseline import Baseline, Residuals
from pipeline.core.detection.explanation import Scene, accuse, explain, lost, unwatched
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
_TOGETHER_MAX = 32  # models; of more a window is work enough for numpy
_ABOVE_SHARE = 0.15  # of the members' hours, for their tails
_OVER = 8.0  # units of surprise that evidence may exceed its threshold by: an alert must not end by chance
_GROWN = max(bank.NEED.max(), ladder.NEED.max())  # age from which every member may speak
_SILENT = np.float32(-1e9)  # the score of a member that may not speak yet
_CHANNEL_OF_MEMBER = CHANNEL_OF_SIGNAL[bank.SIGNAL_OF_MEMBER]

Told = list[tuple[int, Deviation | Exception]]  # (column, what is said about it, or why that failed)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Windows that were held against the baseline together."""

    first: int
    moments: Sequence[Moment]
    residuals: Residuals
    evidence: Floats
    is_settled: bool  # no level is learned anew

    @property
    def end(self) -> int:
        """The window after the last."""
        return self.first + len(self.moments)


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
        # By the first column of a chunk; nothing but what follows from the state and the signals.
        self._seen: dict[int, _Seen] = {}
        self._views: dict[int, dict[str, Arrays]] = {}
        self._works: dict[int, tuple[Floats, Floats, Floats]] = {}  # room for scores, by models in a chunk

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
        self._forget()
        for name in ("baseline", "bank", "ladder", "recovery"):
            self._parts[name].add(count)
        self._scoring.add(count)

    def renew(self, columns: Ints) -> None:
        """These begin anew."""
        self._forget()
        for name in ("baseline", "bank", "ladder", "recovery"):
            self._parts[name].renew(columns)
        self._scoring.renew(columns)

    def keep(self, columns: Ints) -> None:
        """Only these."""
        self._forget()
        for state in self._parts.values():
            state.keep(columns)

    @property
    def form(self) -> str:
        """Of `arrays`: a part's name, and those, types and sizes of its arrays."""
        return repr([(name, state.form) for name, state in self._parts.items()])

    def arrays(self) -> dict[str, Arrays]:
        """Their state, bit by bit."""
        return {name: state.arrays() for name, state in self._parts.items()}

    def take(self, saved: Mapping[str, Arrays]) -> None:
        """Models that were saved, in the columns after the last."""
        self._forget()
        for name, state in self._parts.items():
            state.take(saved[name])

    def step(self, index: int, coming: Signals, masked: Bools) -> Told:
        """One window of all models. `coming`: (SIGNALS, windows, models), this one and those known after it."""
        told = []
        for start in range(0, len(masked), CHUNK):
            end = min(start + CHUNK, len(masked))
            told += self._step_chunk(start, end, index, coming, masked[start:end])
        return told

    def accept(self, column: int, channels: Sequence[Channel]) -> None:
        """What is seen in these channels is what is expected from now on."""
        self._forget()
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
        self._forget()
        self._baseline.seat(column, Signal.CLASS + seat, share)
        self._baseline.accept(column, slice(Signal.CLASS + OTHER_SEAT, Signal.CLASS + OTHER_SEAT + 1))

    def dropped(self, index: int, columns: Ints) -> list[tuple[int, Deviation]]:
        """What to say of models that are forgotten while something is going on."""
        scoring = self._scoring.state
        return [
            (column, unwatched(index, channel, int(scoring["onset"][channel, column]), self._asked))
            for column in columns.tolist()
            for channel in np.flatnonzero(scoring["breached"][:, column]).tolist()
        ]

    def __getstate__(self) -> dict[str, Any]:
        """For copies: their views are of their own arrays."""
        return self.__dict__ | {"_views": {}}

    def _forget(self) -> None:
        """The state is changed from outside."""
        self._seen.clear()
        self._views.clear()
        self._works.clear()

    def _step_chunk(self, start: int, end: int, index: int, coming: Signals, masked: Bools) -> Told:
        views = self._views.get(start)
        if views is None:
            views = self._views[start] = {name: state.view(start, end) for name, state in self._parts.items()}
            self._works[end - start] = _work(end - start)
        base = views["baseline"]
        seen, place = self._look(start, end, index, coming, base)
        moment = seen.moments[place]
        member_scores, scale_scores, scores = self._score(views, seen, place)
        told: Told = [*lost(scores)]
        changed = self._scoring.step(views["scoring"], scores)
        if changed is not None:
            window = Signals(coming.x[:, 0, start:end], coming.n[:, 0, start:end])
            residuals = seen.residuals.at(place)
            scene = Scene(index, window, residuals, views, member_scores, scale_scores, scores, self._asked)
            began, ended = changed
            over = self._recover(scene, began, told)
            told += explain(scene, began, ended | over)
            self._restart(views, over)
        self._learn(views, seen, place, masked, everywhere=changed is None and seen.is_settled)
        if moment.ends_hour:
            self._end_hour(views)
        return [(start + column, found) for column, found in told]

    def _look(self, start: int, end: int, index: int, coming: Signals, base: Arrays) -> tuple["_Seen", int]:
        """This window against its baseline: which of those that were looked at together it is.

        While what is normal stays as it is, a few windows of a few models cost as much as one.
        """
        seen = self._seen.get(start)
        moment = Moment.of(index) if seen is None or index >= seen.end else seen.moments[index - seen.first]
        self._baseline.arrive(base, coming.x[:, 0, start:end], moment)
        if seen is None or index >= seen.end:
            self._baseline.open(base, moment)
            steady = self._baseline.steady(base, moment)
            count = max(1, min(steady, coming.x.shape[1])) if end - start <= _TOGETHER_MAX else 1
            x, n = (a[:, :count, start:end].transpose(1, 0, 2) for a in (coming.x, coming.n))
            moments = [moment, *(Moment.of(index + later) for later in range(1, count))]
            residuals = self._baseline.residuals(base, x, n, moments)
            settled = steady > 0 and not base["relearn"].any()
            seen = _Seen(index, moments, residuals, self._bank.evidence(residuals), settled)
            self._seen[start] = seen
        return seen, index - seen.first

    def _learn(self, views: Mapping[str, Arrays], seen: "_Seen", place: int, masked: Bools, everywhere: bool) -> None:
        """Only where nothing is breached or masked."""
        base, moment = views["baseline"], seen.moments[place]
        residuals, learns, judged = seen.residuals, None, seen.residuals.judged[place]
        relearning = None if seen.is_settled else base["relearn"] > 0
        if not everywhere or masked.any():
            learns = ~views["scoring"]["breached"][CHANNEL_OF_SIGNAL] & ~masked
            if relearning is not None:
                learns |= relearning & ~masked
            judged = learns & judged
            views["scoring"]["skip_hour"] |= masked
        self._baseline.learn(base, residuals.notes[place], residuals.robust_z[place], learns, moment)
        if self._ladder.learns_in(moment.index):
            self._ladder.learn(views["ladder"], judged, base["age"])
        if relearning is not None and relearning.any():
            self._bank.hold(views["bank"], relearning)
            self._ladder.hold(views["ladder"], relearning)

    def _recover(self, scene: Scene, began: Bools, told: Told) -> Bools:
        """Which alerts are over, as what they are about is as expected again. Accuses somebody of those that begin."""
        breached = scene.views["scoring"]["breached"]
        over = np.zeros_like(breached)
        channels, columns = np.nonzero(breached & ~began)
        if len(columns):
            cells = channels, columns
            over[cells] = self._recovery.step(scene.views["recovery"], cells, scene.residuals)
            breached &= ~over
        told += accuse(scene, began, self._recovery)
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

    def _score(self, views: Mapping[str, Arrays], seen: "_Seen", place: int) -> tuple[Floats, Floats, Floats]:
        age = views["baseline"]["age"]
        residuals = seen.residuals
        bank_work, ladder_work, scores = self._works[len(age)]
        of_members = self._bank.step(views["bank"], seen.evidence[place], bank_work)
        of_scales = self._ladder.step(views["ladder"], residuals.z[place], residuals.robust_z[place], ladder_work)
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


def _work(models: int) -> tuple[Floats, Floats, Floats]:
    """Room for the scores of members, scales and families."""
    members = np.empty((bank.MEMBERS, models), np.float32)
    scales = np.empty((ladder.SCALES, SIGNALS, models), np.float32)
    return members, scales, np.empty((len(FAMILIES), CHANNELS, models), np.float32)
