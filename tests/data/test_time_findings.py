"""A column of times is read right, or asked about, or refused with the reason."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from time_columns import NOW, TimeColumn, generate

from sentiflow.data import time_faults, time_findings, times

TOLD_ALONE = "would fit, too, but is "
"""The remark on a date whose days may also be months, though nobody writes them so: a year of four
digits with hyphens, or six digits that begin with the year."""
FULL_WIDTH = {ord(character): ord(character) + 0xFEE0 for character in "0123456789/()"}
"""ASCII characters -> those as wide as a Chinese one."""
ARABIC = {ord(digit): 0x660 + int(digit) for digit in "0123456789"}
"""Digits -> Arabic-Indic ones."""


def judge(column: TimeColumn) -> str:
    """Say how a column was read."""
    written = pa.array(column.written)
    finding = time_findings.find(written, NOW)
    if not finding.readings:
        assert finding.remark
        return "refused"
    if len(finding.readings) > 1:
        question = finding.describe_choice()
        assert all(reading.name in question for reading in finding.readings)
        return "asked"
    read = times.parse(written, finding.readings[0].form).to_pylist()
    pairs = list(zip(read, column.moments, strict=True))
    if all(moment == truth for moment, truth in pairs):
        return "right"
    if all(moment in (None, truth) for moment, truth in pairs):
        return "right, and told what is not read" if finding.remark else "silently not read"
    if finding.remark:
        return "not ISO 8601, told" if TOLD_ALONE in finding.remark else "wrong, told"
    # no value shows that the column is mixed: the format reads all of them
    return "hidden" if column.other and None not in read else "silently wrong"


def judge_all(seed: int, num_columns: int) -> tuple[Counter[str], Counter[str]]:
    """Count the verdicts on generated columns that are written alike, and on mixed ones."""
    alike: Counter[str] = Counter()
    mixed: Counter[str] = Counter()
    for column in generate(seed, num_columns):
        verdicts = mixed if column.other else alike
        verdicts[judge(column)] += 1
    return alike, mixed


def check(alike: Counter[str], mixed: Counter[str]) -> None:
    """Check that no column is silently wrong, and that most are read."""
    assert set(alike) <= {"right", "asked", "not ISO 8601, told"}, alike
    assert alike["not ISO 8601, told"] <= 0.005 * alike.total()
    assert alike["right"] >= 0.7 * alike.total()
    assert mixed["silently wrong"] == mixed["silently not read"] == 0, mixed
    assert mixed["hidden"] <= 0.03 * mixed.total()
    assert mixed["wrong, told"] <= 0.04 * mixed.total()


def test_no_generated_column_is_silently_wrong():
    check(*judge_all(seed=1, num_columns=150))


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 6))
def test_no_column_of_thousands_is_silently_wrong(seed):
    check(*judge_all(seed=seed, num_columns=2000))


def days(form: str, first: str, number: int, step: int = 1) -> list[str]:
    """Write days at equal distances."""
    start = datetime.fromisoformat(first).replace(tzinfo=UTC)
    return [f"{start + timedelta(days=step * n):{form}}" for n in range(number)]


@pytest.mark.parametrize(
    ("written", "formats"),
    [
        (days("%y.%m.%d", "2003-11-25", 400, 11), ["%y.%m.%d"]),
        (days("%y/%m/%d", "2015-01-01", 40, 9), ["%y/%m/%d"]),
        (days("%y.%m.%d %H:%M", "2015-01-01", 40, 9), ["%y.%m.%d %H:%M"]),
        (days("%Y. %m. %d.", "2015-01-01", 40, 9), ["%Y. %m. %d."]),
        (days("%Y년 %m월 %d일", "2015-01-01", 3), ["%Y년 %m월 %d일"]),
        (days("%y-%m-%d", "2015-01-01", 40, 9), ["%y-%m-%d"]),
        (days("%Y年%m月%d日", "2015-01-01", 3), ["%Y年%m月%d日"]),
        (days("%Y-%m-%d", "2015-01-01", 3), [None]),
        (["2015.01.31", "2015.02.01"], [None]),
        (["2015. 1. 5. 오후 3:05", "2015. 1.31. 오전 3:05"], ["%Y. %m. %d. %p %I:%M"]),
        (["150131", "991231"], ["%y%m%d"]),
        (["50131", "101231"], []),
        (["99.01.31", "00.12.13"], ["%y.%m.%d"]),
        (["15.08.05"], ["%d.%m.%y", "%d.%y.%m", "%y.%d.%m", "%y.%m.%d"]),
        (["104/01/31", "104/02/01"], []),
        (["2015. 01. 31.", "15.01.31", "31 Jan 2015"], []),
        (["3 days ago", "2 hours ago"], []),
        (["1706659200123", "1588687728923"], [None]),
        (["1706659200123456", "1706659200123456789"], [None]),
        (["31/01/2024".translate(FULL_WIDTH)], ["%d/%m/%Y"]),
        (["31/01/2024".translate(ARABIC)], ["%d/%m/%Y"]),
        (["2024年1月31日(水)".translate(FULL_WIDTH)], ["%Y年%m月%d日"]),
        (["2024년 1월 31일 15시", "2024년 2월 1일 9시"], ["%Y년 %m월 %d일 %H시"]),
        (["January 3rd, 2024", "March 21st, 2024", "May 2nd, 2024"], ["%B %d, %Y"]),
        (["3 Sept 2024", "21 Dec 2024"], ["%d %b %Y"]),
        (["Wed Jan 31 10:15:00 UTC 2024"], ["%a %b %d %H:%M:%S UTC %Y"]),
        (["2024-W05-3", "2024-W27-7"], ["%G-W%V-%u"]),
        (["202401", "202412"], ["%Y%m"]),
        (["012024", "122024"], ["%m%Y", "%m%d%y"]),
        (["01/2024", "12/2024"], ["%m/%Y"]),
        (["Jan 2024", "Dec 2024"], ["%b %Y"]),
        (["2024년 1월", "2024년 12월"], ["%Y년 %m월"]),
        (["2024013110", "2024120123"], [None, "%Y%m%d%H"]),
        (days("%Y%m%d%H", "2024-01-31", 10), ["%Y%m%d%H"]),
        (["202401311015 10:15"], []),
        (["平成15年3月2日", "平成28年12月31日"], []),
        (["R5.1.31", "R5.12.3"], []),
        (["民國99年1月31日", "民國98年12月3日"], []),
    ],
    ids=str,
)  # fmt: skip
def test_a_format_is_found_from_the_whole_column(written, formats):
    found = time_findings.find_formats(pa.array(written), NOW)
    assert sorted(map(str, found)) == sorted(map(str, formats))


def _two_days(month: int) -> list[int]:
    """Choose two days of a month, the earlier one first."""
    return sorted([1 + 5 * month % 12, 1 + (7 * month + 3) % 12])


def test_the_order_of_the_rows_decides_unless_they_are_sorted_as_text():
    written = []
    for month in range(1, 13):
        written += [f"{day:02}.{month:02}.2015" for day in _two_days(month)]
    finding = time_findings.find(pa.array(written), NOW)
    assert [reading.form for reading in finding.readings] == ["%d.%m.%Y"]
    assert "the rows are in order of time" in finding.remark
    assert finding.is_doubtful
    assert len(time_findings.find_formats(pa.array(sorted(written)), NOW)) == 2


def test_times_in_the_future_decide_and_are_told():
    written = days("%y.%m.%d", "2003-11-25", 400, 11)
    finding = time_findings.find(pa.array(written), NOW)
    assert finding.remark == "'%d.%m.%y' would put 58 of 400 times in the future"
    fault = time_faults.find_fault(pa.array(written), "%d.%m.%y", NOW)
    assert not fault.is_error
    assert fault.text.startswith("of 400 times 58 are in the future: ")
    assert fault.text.endswith("; none is in the future by '%y.%m.%d'")
    assert time_faults.find_fault(pa.array(written), "%y.%m.%d", NOW) == ("", False)


def test_a_few_weeks_are_not_the_same_day_of_many_years():
    written = days("%y.%m.%d", "2015-08-05", 21)
    finding = time_findings.find(pa.array(written), NOW)
    assert [reading.form for reading in finding.readings] == ["%y.%m.%d"]
    assert finding.is_doubtful


def test_a_mixed_column_is_refused_or_told_with_counts():
    american = days("%m/%d/%Y", "2015-01-01", 100, 5)
    european = days("%d/%m/%Y", "2017-01-01", 100, 5)
    finding = time_findings.find(pa.array([*european, *american]), NOW)
    assert not finding.readings
    assert "no format reads nearly all of its 200 different times: " in finding.remark
    assert "of the others, such as '" in finding.remark
    finding = time_findings.find(pa.array([*european, *american[4:6]]), NOW)
    assert [reading.form for reading in finding.readings] == ["%d/%m/%Y"]
    assert finding.is_doubtful
    assert "'%m/%d/%Y' reads 2 of these: is the column mixed?" in finding.remark


def test_a_time_of_day_alone_is_no_time():
    finding = time_findings.find(pa.array(["13:05", "14:10"]), NOW)
    assert finding.remark == (
        "no format reads nearly all of its 2 different times: 2 are not read, such as '13:05'; "
        "a time of day has no date"
    )


@pytest.mark.parametrize(
    ("written", "remark"),
    [
        (["2024-01-31 10:15 KST"], "the zone KST is not read, and the times are taken as UTC"),
        (["31/01/2567"], "its years, such as 2567, seem to be of another calendar: "),
        (["1445-05-17"], "its years, such as 1445, seem to be of another calendar: "),
        (["15年3月21日"], "years of two digits before 年 may be those of an era"),
    ],
)
def test_a_zone_by_name_and_another_calendar_are_told(written, remark):
    finding = time_findings.find(pa.array(written), NOW)
    assert remark in finding.remark
    assert finding.is_doubtful


@pytest.mark.parametrize(
    ("written", "remark"),
    [
        (["45322", "45323.25"], "these may be day numbers of a spreadsheet: "),
        (["1.70666E+12"], "a spreadsheet may have rounded these numbers: "),
        (["令和5年1月31日"], "years of an era or of another calendar are not read: "),
        (["112/01/31"], "years of an era or of another calendar are not read: "),
        (["31. Januar 2024"], "months are read with English names or as numbers"),
        (["3 мая 2024"], "months are read with English names or as numbers"),
    ],
)
def test_a_column_that_is_not_read_has_a_hint(written, remark):
    finding = time_findings.find(pa.array(written), NOW)
    assert not finding.readings
    assert remark in finding.remark


def test_unusual_times_are_counted():
    written = pa.array(["1989-12-31", "1990-01-01", "2026-12-02", "2026-12-03", "no"])
    unusual = times.count_unusual(times.parse(written, None), NOW)
    assert unusual == (1, 1)
    assert unusual.describe(4) == "of 4 times 1 are in the future and 1 are before 1990"
