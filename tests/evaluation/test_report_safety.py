"""Names and texts that are not trusted are shown, and nothing in them runs."""
# ruff: noqa: F811 -- fixtures are imported

import dataclasses

import pyarrow as pa
from test_report import (  # noqa: F401
    ALL_PLOTS,
    SCRIPT,
    Outline,
    data,
    page,
    plots,
    probed_anew,
    report_data,
    rows,
    write,
)

from sentiflow.evaluation.behavior import Failure


def test_the_page_needs_nothing_but_itself(page):
    tags = Outline(page).tags
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in tags}
    addresses = [
        value
        for _, attributes in tags
        for name, value in attributes.items()
        if name in ("src", "srcset", "href", "data", "action", "poster")
    ]
    images = [address for address in addresses if not address.startswith("#")]
    assert len(images) == len(ALL_PLOTS)
    assert all(image.startswith("data:image/png;base64,") for image in images)
    assert "url(" not in page
    assert "@import" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_the_page_forbids_scripts_and_the_network(page):
    (policy,) = [
        attributes["content"]
        for tag, attributes in Outline(page).tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert "script-src" not in directives
    assert directives["img-src"] == "data:"


def test_markup_in_names_settings_and_texts_is_shown_not_run(rows):
    hostile = report_data(
        rows.set_column(7, "text", pa.array([SCRIPT] * len(rows))),
        counts={SCRIPT: 1},
        settings={SCRIPT: {"x": SCRIPT}, "list": [SCRIPT]},
        lineage=[(SCRIPT, SCRIPT, SCRIPT)],
        versions={SCRIPT: SCRIPT},
    )
    hostile = dataclasses.replace(hostile, result=dataclasses.replace(hostile.result, name=SCRIPT))
    failures = (Failure(SCRIPT, 0.1, SCRIPT, 0.2),)
    behavior = [
        dataclasses.replace(test, failures=failures) for test in hostile.result.probed.behavior
    ]
    hostile = probed_anew(hostile, behavior=behavior)
    page = write(hostile)
    outline = Outline(page)
    assert "script" not in {tag for tag, _ in outline.tags}
    assert "<script" not in page
    num_failures = 2 * len(behavior)
    assert (
        outline.text.count(SCRIPT)
        >= 10 + len(set(hostile.mistakes["kind"].to_pylist())) + num_failures
    )
