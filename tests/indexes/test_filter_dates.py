"""Conditions on dates, and on the texts that spell them."""

from __future__ import annotations

import pytest

DATES = {
    "day": "2024-06-01",
    "zone": "2024-06-01T23:30:00-05:00",  # 2024-06-02 in UTC
    "noon": "2024-06-01 12:00",
    "mail": "Sun, 02 Jun 2024 09:00:00 +0200",
    "words": "June 3, 2024",
    "slashes": "2024/6/4",
    "month": "2024-07",
    "list": ["2024-08-01", "2023-08-01"],
    "unclear": "05/06/2024",
    "number": 2024,
    "text": "soon",
}


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("d >= 2024-06-02", "mail words slashes month list"),
        ("d <= 2024-06-01", "day zone noon list"),
        ("d = 2024-06-01", "day zone noon"),
        ("d in (2024-06-03, '2024-06-04')", "words slashes"),
        ("d between 2024-06-03 and 2024-07-31", "words slashes month"),
        ("d = 2024-06", "day zone noon mail words slashes"),
        ("d = 2024-06-02T07:00Z", "mail"),
        ("d > 2024-06-01T12:00 and d < 2024-06-03T00:00", "zone mail list"),
        ("d != 2024-06-01", "mail words slashes month list unclear number text"),
        ("d like '2024-06%'", "day zone noon"),
    ],
)
def test_dates_compare_as_dates_however_they_are_written(ids_where, where, found):
    assert ids_where({name: {"d": value} for name, value in DATES.items()})(where) == found.split()


@pytest.mark.parametrize("spelled", ["2024-06-01 22:30:00+00", "2024-06-01 22:30:00 UTC", "2024-06-02T00:30+02"])
def test_zones_are_read_as_databases_print_them(ids_where, spelled):
    found = ids_where({"a": {"d": spelled}, "b": {"d": "2024-06-01T22:29Z"}})
    assert found("d > 2024-06-01T22:29Z") == ["a"]
    assert found("d = 2024-06-01T22:30+00") == ["a"]
    assert found(f"d = '{spelled}'") == ["a"]
    assert found(f"d >= {spelled[:10]}")[:1] == ["a"]


def test_a_day_in_quotes_is_a_date_among_dates_and_text_among_texts(ids_where):
    found = ids_where({name: {"d": value} for name, value in DATES.items()})
    assert found("d = '2024-06-01'") == ["day", "zone", "noon"]
    assert found("d > '2024-06-03'") == ["slashes", "month", "list", "text"]  # "soon" lies behind every digit
    assert found("d = '2024-06'") == []  # may be any code, so it is no date
    assert found("d = '2024-07'") == ["month"]


def test_what_a_text_is_exactly_is_no_date_and_no_number(ids_where):
    values = ["2024-06-01", "2024/06/01", "2024-06-01 10:00", "June 1, 2024", ["x", "2024-06-01"], "7", 7, "007"]
    values.append("A\0b")
    found = ids_where({str(i): {"d": value} for i, value in enumerate(values)} | {"2024-06-01": {}})
    assert found("d is '2024-06-01'") == ["0", "4"]
    assert found("d is in ('2024-06-01', '7', 'a\0b')") == ["0", "4", "5"]
    assert found("d is 'A\0b'") == ["8"]
    assert found("d is not '7'") == [*"01234678", "2024-06-01"]
    assert found("d is not in ('7', 'x')") == [*"0123678", "2024-06-01"]
    assert found("_id is '2024-06-01'") == ["2024-06-01"]


def test_an_id_that_looks_like_a_date_is_a_string(ids_where):
    found = ids_where({"2024-06-01": {}, "2024-06-01T12:00": {}})
    assert found("_id = 2024-06-01") == found("_id in ('2024-06-01')") == ["2024-06-01"]
