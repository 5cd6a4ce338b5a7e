"""Topics over time: dates as people write them, periods without gaps, nobody lost."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from llm2comp_apps.clustering.describing.timeline import day_of, topics_over_time


@pytest.mark.parametrize(
    ("value", "day"),
    [
        (2021, date(2021, 1, 1)),
        (2021.0, date(2021, 1, 1)),
        ("2021", date(2021, 1, 1)),
        ("2021-06", date(2021, 6, 1)),
        ("2021-06-09", date(2021, 6, 9)),
        (" 2021/6/9 ", date(2021, 6, 9)),
        ("2021-06-09T23:59:00Z", date(2021, 6, 9)),
        ("2021-06-09 10:00", date(2021, 6, 9)),
        ("20210609", date(2021, 6, 9)),
        ("Wed, 09 Jun 2021 10:00:00 +0200", date(2021, 6, 9)),
        (1623196800, date(2021, 6, 9)),
        (1623196800000, date(2021, 6, 9)),
        (20210609, date(2021, 6, 9)),
        ("1623196800", date(2021, 6, 9)),
        ("1623196800000", date(2021, 6, 9)),
        ("1623196800.25", date(2021, 6, 9)),
        ("2021.0", date(2021, 1, 1)),
        (20211309, None),
        ("12345", None),
        ("9" * 400, None),
        ("2021-13", None),
        ("2021-02-30", None),
        ("soon", None),
        ("", None),
        (None, None),
        (True, None),
        (7.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (["2021"], None),
    ],
)
def test_a_day_is_read_as_people_write_it(value, day):
    assert day_of(value) == day


MONTHS = [f"2021-{month:02}" for month in range(1, 13)]
QUARTERS = [f"{year}-Q{quarter}" for year in (2019, 2020, 2021) for quarter in (1, 2, 3, 4)]
MONDAYS = "2020-12-28 2021-01-04 2021-01-11 2021-01-18 2021-01-25 2021-02-01 2021-02-08 2021-02-15 2021-02-22"


@pytest.mark.parametrize(
    ("days", "unit", "periods"),
    [
        ([2019, 2021], "year", ["2019", "2020", "2021"]),
        (["2021-01-30", "2021-02-02"], "day", ["2021-01-30", "2021-01-31", "2021-02-01", "2021-02-02"]),
        (["2021-01-01", "2021-02-28"], "week", MONDAYS.split()),
        (["2020-12-31", "2022-01-01"], "month", ["2020-12", *MONTHS, "2022-01"]),
        (["2018-11-30", "2022-01-02"], "quarter", ["2018-Q4", *QUARTERS, "2022-Q1"]),
        (["1999-12-31", "2022-01-02"], "year", [str(year) for year in range(1999, 2023)]),
    ],
)
def test_periods_suit_the_span_and_leave_none_out(days, unit, periods):
    found = topics_over_time(days, np.zeros(len(days), np.int32), 1)
    assert (found.unit, found.periods) == (unit, periods)
    assert found.counts[0, 0] == found.counts[-1, 0] == 1
    assert found.counts.sum() == 2


def test_every_document_is_counted_once_or_said_to_have_no_date():
    values = ["2021-01-05", "2022-01-05", None, "2022-02-05", "never", "2022-02-07"]
    labels = np.array([0, 1, 0, -1, 1, 1], np.int32)
    found = topics_over_time(values, labels, 2)
    assert found.undated == 2
    assert found.counts.sum(axis=0).tolist() == [1, 2, 1]
    assert found.counts[found.periods.index("2022-02")].tolist() == [0, 1, 1]


def test_without_any_date_there_are_no_periods():
    found = topics_over_time([None, "x"], np.zeros(2, np.int32), 3)
    assert (found.periods, found.counts.shape, found.undated) == ([], (0, 4), 2)
