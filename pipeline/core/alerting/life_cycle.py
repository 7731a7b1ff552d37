"""The life of alerts: conditions in, steps of episodes out. One machine for rules, detectors and heartbeats.

    breached        x x x x . . x . . . .        hold 20 s, keep firing 20 s, a condition every 10 s
    pending ─┐      p p                          nobody is told
    firing   ├─        F F     F                 held for long enough
    recovering            r r   r r              well again, but not for long enough
    resolved                        R            the end, on evidence alone

An episode begins with the first breach and has its moment for a name; a step is known by its number in the episode.
Both follow from the conditions alone, in their order: a replay makes the same steps with the same ids. None (no data)
neither ends an episode nor begins one; when it lasts, the episode says so (no_data) and goes on when there is data.
A person who has acknowledged an episode is not told again when it comes back before its end, only when it gets worse.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from pipeline.core.condition import Condition, Subject
from schemas.alert import SUMMARY_LENGTH_MAX, AlertEvent, AlertState, Severity
from schemas.silence import Acknowledgement

FLAP_MS = 3_600_000  # how long a beginning counts as a flap
NO_DATA_MS = 900_000


@dataclass(slots=True)
class OpenEpisode:
    """An open episode, and the last condition that said something."""

    last: Condition
    starts_at_ms: int
    held_since_ms: int  # breached from then on: the hold is measured from here
    state: AlertState = AlertState.PENDING
    sequence: int = 0
    severity: Severity = Severity.INFO  # the worst of the episode
    calm_since_ms: int | None = None
    has_fired: bool = False
    acknowledged_by: str | None = None
    comment: str = ""
    taken: tuple[str, int] | None = None  # by whom and when, the last time: the same word is heard again and again


@dataclass(slots=True)
class Track:
    """What is known of a subject: the open episode, and when it began to fire of late."""

    at_ms: int  # of the last condition
    episode: OpenEpisode | None = None
    fired_ms: list[int] = field(default_factory=list)


class LifeState(msgspec.Struct):
    """Every subject of which something is known."""

    tracks: list[tuple[Subject, Track]] = []


class LifeCycle:
    """Every alert of one partition. Memory is bounded by what is open, and by what fired within the last hour."""

    def __init__(self, no_data_ms: int = NO_DATA_MS) -> None:
        """An open episode of which nothing was heard for `no_data_ms` says so."""
        self._no_data_ms = no_data_ms
        self._tracks: dict[Subject, Track] = {}
        self._by_fingerprint: dict[str, Subject] = {}

    def observe(self, condition: Condition) -> list[AlertEvent]:
        """The step that a condition leads to, if any. Conditions of a subject come in the order of the log's time."""
        track = self._tracks.get(condition.subject)
        if track is None:
            if condition.breached is not True:
                return []
            track = self._tracks[condition.subject] = Track(condition.at_ms)
            self._by_fingerprint[condition.subject.fingerprint] = condition.subject
        elif condition.at_ms < track.at_ms or (track.episode is None and condition.at_ms == track.at_ms):
            return []  # told before: an episode's name must not be given twice
        track.at_ms = condition.at_ms
        if condition.breached is None:
            return self._without_data(track, condition.at_ms)
        if condition.breached:
            return self._breach(track, condition)
        return self._calm(track, condition)

    def tick(self, now_ms: int) -> list[AlertEvent]:
        """What follows from the log's time alone: episodes without data. Forgets what is over."""
        steps: list[AlertEvent] = []
        for subject, track in list(self._tracks.items()):
            steps += self._without_data(track, now_ms)
            if track.episode is None and max(track.fired_ms, default=0) <= now_ms - FLAP_MS and track.at_ms < now_ms:
                del self._tracks[subject]
                del self._by_fingerprint[subject.fingerprint]
        return steps

    def hear(self, ack: Acknowledgement, at_ms: int) -> list[AlertEvent]:
        """What a person says of an episode, when the log had come to `at_ms`. A second time it changes nothing."""
        if ack.says == "over":
            return self.close(ack.fingerprint, ack.episode, ack.author, ack.comment, at_ms)
        if ack.says == "free":
            return self.release(ack.fingerprint, ack.episode, ack.at_ms)
        return self.acknowledge(ack.fingerprint, ack.episode, ack.author, ack.comment, ack.at_ms)

    def subject(self, fingerprint: str, episode: int) -> Subject | None:
        """What an open episode is about."""
        track = self._track(fingerprint)
        opened = track.episode if track else None
        return opened.last.subject if opened is not None and opened.starts_at_ms == episode else None

    def acknowledge(self, fingerprint: str, episode: int, author: str, comment: str, at_ms: int) -> list[AlertEvent]:
        """A person has taken an episode. Nothing if it is not open, not firing yet, or taken already."""
        track = self._track(fingerprint)
        opened = track.episode if track else None
        if track is None or opened is None or opened.starts_at_ms != episode:
            return []
        if not opened.has_fired or opened.acknowledged_by is not None or opened.taken == (author, at_ms):
            return []  # the last one: it was for something lesser
        opened.acknowledged_by, opened.comment, opened.taken = author, comment, (author, at_ms)
        if opened.state in (AlertState.FIRING, AlertState.SUPPRESSED):
            return [self._step(track, AlertState.ACKNOWLEDGED, at_ms, opened.last)]
        return []  # as soon as it is breached again

    def release(self, fingerprint: str, episode: int, at_ms: int) -> list[AlertEvent]:
        """Nobody has an episode any more. Nothing if nobody had it."""
        track = self._track(fingerprint)
        opened = track.episode if track else None
        if track is None or opened is None or opened.starts_at_ms != episode or opened.acknowledged_by is None:
            return []
        opened.acknowledged_by, opened.comment = None, ""
        if opened.state is not AlertState.ACKNOWLEDGED:
            return []
        return [self._step(track, _loudness(opened, opened.last), at_ms, opened.last)]

    def close(self, fingerprint: str, episode: int, author: str, comment: str, at_ms: int) -> list[AlertEvent]:
        """A person says that an episode is over. What is still breached begins another one."""
        track = self._track(fingerprint)
        if track is None or track.episode is None or track.episode.starts_at_ms != episode:
            return []
        last = track.episode.last
        text = f"closed by {author}{': ' if comment else ''}{comment}; before: {last.summary}"
        evidence = {**last.evidence, "closed_by": author, "comment": comment}
        return self._end(track, max(at_ms, track.at_ms), replace(last, summary=text, evidence=evidence))

    def withdraw(self, rule_id: str, at_ms: int, why: str) -> list[AlertEvent]:
        """Ends the episodes of a rule that is not judged any more: deleted, disabled, or about something else now."""
        return self.end_all(lambda subject: subject.rule_id == rule_id, at_ms, why)

    def end_all(self, ends: Callable[[Subject], bool], at_ms: int, why: str) -> list[AlertEvent]:
        """Ends the episodes of all that is not judged any more."""
        steps = []
        for subject, track in self._tracks.items():
            if track.episode is not None and ends(subject):
                last = track.episode.last
                text = f"no longer judged ({why}); before: {last.summary}"
                evidence = {**last.evidence, "withdrawn": why}
                steps += self._end(track, at_ms, replace(last, summary=text, evidence=evidence))
        return steps

    @property
    def open(self) -> Mapping[str, AlertState]:
        """The state of every open episode, by fingerprint."""
        return {s.fingerprint: t.episode.state for s, t in self._tracks.items() if t.episode is not None}

    def follows(self, subject: Subject) -> bool:
        """Whether it matters that all is well with it: there is, or was of late, an episode."""
        return bool(self._tracks) and subject in self._tracks

    def states(self) -> Iterator[tuple[Subject, AlertState]]:
        """Every open episode: what it is about, and where it stands."""
        for subject, track in self._tracks.items():
            if track.episode is not None:
                yield subject, track.episode.state

    def snapshot(self) -> LifeState:
        """Everything."""
        return LifeState(list(self._tracks.items()))

    def restore(self, state: LifeState) -> None:
        """As it was when it was saved."""
        self._tracks = dict(state.tracks)
        self._by_fingerprint = {subject.fingerprint: subject for subject in self._tracks}

    def _track(self, fingerprint: str) -> Track | None:
        subject = self._by_fingerprint.get(fingerprint)
        return None if subject is None else self._tracks[subject]

    def _breach(self, track: Track, condition: Condition) -> list[AlertEvent]:
        at_ms, episode = condition.at_ms, track.episode
        steps: list[AlertEvent] = []
        if episode is None:
            episode = track.episode = OpenEpisode(condition, at_ms, at_ms, severity=condition.severity)
            if condition.hold_ms > 0:
                return [self._step(track, AlertState.PENDING, at_ms, condition)]
        was, worse = episode.state, condition.severity.rank > episode.severity.rank
        if was is AlertState.NO_DATA and not episode.has_fired:
            episode.held_since_ms = at_ms  # what was before the silence was not held through it
        episode.last, episode.calm_since_ms = condition, None
        if worse:
            episode.severity = condition.severity
            episode.acknowledged_by = None  # whoever took it took something lesser
        wanted = _loudness(episode, condition)
        if not episode.has_fired and at_ms - episode.held_since_ms < condition.hold_ms:
            wanted = AlertState.PENDING
        if wanted is not AlertState.PENDING and (not episode.has_fired or was is AlertState.RECOVERING):
            track.fired_ms = [*(ms for ms in track.fired_ms if ms > at_ms - FLAP_MS), at_ms]
            episode.has_fired = True
        if wanted is not was or episode.sequence == 0 or (worse and wanted is not AlertState.PENDING):
            steps.append(self._step(track, wanted, at_ms, condition))
        return steps

    def _calm(self, track: Track, condition: Condition) -> list[AlertEvent]:
        at_ms, episode = condition.at_ms, track.episode
        if episode is None:
            return []
        episode.last = condition
        if episode.calm_since_ms is None:
            episode.calm_since_ms = at_ms
        if episode.has_fired and at_ms - episode.calm_since_ms < condition.keep_firing_ms:
            if episode.state is AlertState.RECOVERING:
                return []
            return [self._step(track, AlertState.RECOVERING, at_ms, condition)]
        return self._end(track, at_ms, condition)

    def _without_data(self, track: Track, now_ms: int) -> list[AlertEvent]:
        episode = track.episode
        if episode is None or episode.state is AlertState.NO_DATA:
            return []
        quiet_ms = now_ms - episode.last.at_ms
        if quiet_ms < self._no_data_ms:
            return []
        episode.calm_since_ms = None  # whether it stayed well is not known
        text = f"no data for {quiet_ms // 60_000} min; before: {episode.last.summary}"
        return [self._step(track, AlertState.NO_DATA, now_ms, replace(episode.last, summary=text))]

    def _end(self, track: Track, at_ms: int, condition: Condition) -> list[AlertEvent]:
        step = self._step(track, AlertState.RESOLVED, at_ms, condition)
        track.episode = None
        track.at_ms = max(track.at_ms, at_ms)
        return [step]

    def _step(self, track: Track, state: AlertState, at_ms: int, condition: Condition) -> AlertEvent:
        episode, subject = track.episode, condition.subject
        assert episode is not None
        previous = episode.state if episode.sequence else None
        episode.state, episode.sequence = state, episode.sequence + 1
        evidence = {**condition.evidence, "flap_count": _flaps(track, at_ms)}
        if condition.suppressed_by is not None and state is AlertState.SUPPRESSED:
            evidence["suppressed_by"] = condition.suppressed_by
        if episode.acknowledged_by is not None:
            evidence |= {"acknowledged_by": episode.acknowledged_by, "comment": episode.comment}
        return AlertEvent(
            fingerprint=subject.fingerprint,
            episode=episode.starts_at_ms,
            sequence=episode.sequence,
            state=state,
            previous_state=previous,
            at_ms=at_ms,
            starts_at_ms=episode.starts_at_ms,
            kind=subject.kind,
            rule_id=subject.rule_id,
            workspace=subject.workspace,
            model_id=subject.model_id,
            device_id=subject.device_id,
            class_name=subject.class_name,
            metric=subject.metric,
            value=condition.value,
            expected=condition.expected,
            threshold=condition.threshold,
            severity=episode.severity,
            labels=dict(condition.labels),
            summary=condition.summary[:SUMMARY_LENGTH_MAX],
            evidence=evidence,
        )


def _loudness(episode: OpenEpisode, condition: Condition) -> AlertState:
    """How an episode that has been breached for long enough is told."""
    if episode.acknowledged_by is not None:
        return AlertState.ACKNOWLEDGED
    return AlertState.FIRING if condition.suppressed_by is None else AlertState.SUPPRESSED


def _flaps(track: Track, at_ms: int) -> int:
    """How often it had begun to fire in the hour before it did so last."""
    return max(0, len([ms for ms in track.fired_ms if ms > at_ms - FLAP_MS]) - 1)
