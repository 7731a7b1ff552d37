"""The scorer of NAB, on a corpus of one small file."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.performance.detect.nab import PROFILES, Corpus, report

ROWS, ANOMALY = 1000, (600, 649)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    start = datetime(2014, 4, 1)
    times = [start + timedelta(minutes=5 * row) for row in range(ROWS)]
    values = np.random.default_rng(1).normal(10, 1, ROWS)
    values[610:630] += 15
    lines = [f"{time},{value}" for time, value in zip(times, values, strict=True)]
    (tmp_path / "data" / "real").mkdir(parents=True)
    (tmp_path / "labels").mkdir()
    (tmp_path / "data" / "real" / "one.csv").write_text("\n".join(["timestamp,value", *lines]))
    window = [f"{times[row]}.000000" for row in ANOMALY]
    (tmp_path / "labels" / "combined_windows.json").write_text(json.dumps({"real/one.csv": [window]}))
    return tmp_path


def scores(*alarms: int) -> dict[str, np.ndarray]:
    out = np.zeros(ROWS)
    out[list(alarms)] = 1
    return {"real/one.csv": out}


def test_no_alarm_is_worth_nothing_and_the_first_row_of_the_window_everything(root: Path) -> None:
    corpus = Corpus(root)
    assert corpus.score(scores(), "standard")[0] == 0
    assert corpus.score(scores(ANOMALY[0]), "standard")[0] == pytest.approx(100, abs=0.1)


def test_late_is_worth_less_and_a_false_alarm_costs(root: Path) -> None:
    corpus = Corpus(root)
    early, late, noisy = (
        [corpus.score(scores(*alarms), profile)[0] for profile in PROFILES] for alarms in ((605,), (645,), (605, 300))
    )
    assert all(a > b for a, b in zip(early, late, strict=True))
    # A false alarm costs .11 of a window found, twice as much where false alarms are feared, half where misses are.
    costs = np.array(early) - np.array(noisy)
    assert costs[0] == pytest.approx(50 * 0.11, rel=0.02)
    assert costs[1] == pytest.approx(2 * costs[0])
    assert costs[2] == pytest.approx(costs[0] * 2 / 3)


def test_alarms_in_the_probation_do_not_count(root: Path) -> None:
    corpus = Corpus(root)
    assert corpus.score(scores(10, 605), "standard") == corpus.score(scores(605), "standard")


def test_our_detector_finds_what_is_plain(root: Path) -> None:
    assert report(root)[0][1] > 80
