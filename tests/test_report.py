"""The page says what the figures say, needs nothing but itself, and fits a phone."""

import dataclasses
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from sentiflow.metrics import binary_figures
from sentiflow.report import ReportData, render_page, render_plots

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

ALL_PLOTS = {
    "training_curve.png",
    "confusion.png",
    "roc.png",
    "precision_recall.png",
    "reliability.png",
    "probabilities.png",
}

SCRIPT = "<script>document.title = 'ran'</script>"


def predictions_of(split, num_rows, *, seed=0, positive_fraction=0.5):
    """Labelled rows of one split, about four in five of them right."""
    rng = np.random.default_rng(seed)
    label = (rng.random(num_rows) < positive_fraction).astype(np.int8)
    probability = (1 / (1 + np.exp(-rng.normal(2.0 * (2 * label - 1), 2)))).astype(np.float32)
    return pd.DataFrame(
        {
            "split": split,
            "label": label,
            "probability": probability,
            "prediction": (probability >= 0.5).astype(np.int8),
        }
    )


def figures_of(predictions):
    """Figures by split, in order of appearance."""
    return {
        split: binary_figures(
            label=rows["label"].to_numpy(),
            probability=rows["probability"].to_numpy(),
            prediction=rows["prediction"].to_numpy(),
        )
        for split, rows in predictions.groupby("split", sort=False)
    }


def report_data(predictions, **changes):
    """A report of ``predictions`` with three epochs, two of every list, and ``changes``."""
    data = ReportData(
        name="quickstart",
        created="2026-03-01T14:05:00+01:00",
        figures=figures_of(predictions),
        predictions=predictions,
        curve=pd.DataFrame(
            {
                "epoch": [1, 2, 3],
                "train_loss": [0.61, 0.45, 0.35],
                "validation_loss": [0.52, 0.44, 0.46],
                "validation_accuracy": [0.74, 0.803, 0.796],
            }
        ),
        counts={"read": 1_600_000, "scored_with_the_prior_only": 412},
        settings={"train": {"model": {"cell": "gru"}, "num_epochs": 3, "init_from": None}},
        lineage=[("CSV", "/data/tweets.csv", "sha256:ab12"), ("model", "/m", "sha256:cd34")],
        versions={"torch": "2.13.0", "ray": "2.60.0"},
    )
    return dataclasses.replace(data, **changes)


@pytest.fixture(scope="module")
def predictions():
    """1,000 rows of validation, then 2,000 of test."""
    return pd.concat(
        [predictions_of("validation", 1000, seed=1), predictions_of("test", 2000, seed=2)]
    )


@pytest.fixture(scope="module")
def data(predictions):
    """A report with everything in it."""
    return report_data(predictions)


@pytest.fixture(scope="module")
def plots(data):
    """Its plots."""
    return render_plots(data)


@pytest.fixture(scope="module")
def page(data, plots):
    """Its page."""
    return render_page(data, plots)


class Outline(HTMLParser):
    """Tags with their attributes in order, and the text of every element but styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        self.texts.append("" if tag == "wbr" else " ")

    def handle_endtag(self, tag):
        self.texts.append(" ")
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, text):
        if "style" not in self.open:
            self.texts.append(text)

    @property
    def text(self):
        """What a reader sees, with white space collapsed."""
        return " ".join("".join(self.texts).split())


def write(data):
    """Write the page around images that stand for the plots, which take longer to draw."""
    return render_page(data, dict.fromkeys(ALL_PLOTS, PNG_SIGNATURE))


def test_every_plot_is_a_png_of_the_same_width(plots):
    assert set(plots) == ALL_PLOTS
    assert all(image.startswith(PNG_SIGNATURE) for image in plots.values())
    assert len({image[16:20] for image in plots.values()}) == 1


def test_rendering_twice_gives_the_same_bytes(data, plots, page):
    assert render_plots(data) == plots
    assert render_page(data, plots) == page


def test_drawing_leaves_matplotlib_as_it_was(data):
    with mpl.rc_context({"font.size": 7, "savefig.dpi": 50}):
        before = dict(mpl.rcParams)
        render_plots(data)
        assert dict(mpl.rcParams) == before


def test_the_headline_is_the_test_accuracy_with_its_interval(data, page):
    figures = data.figures["test"]
    headline = Outline(page).text.partition("Rows")[0]
    assert f"labels {figures['accuracy']:.1%} of the test texts correctly" in headline
    assert f"{figures['accuracy_low']:.1%} to {figures['accuracy_high']:.1%}" in headline
    right = figures["true_positive"] + figures["true_negative"]
    assert "Of 2,000 texts" in headline
    assert "not trained on" in headline
    assert f"it got {right:,} right" in headline


def test_the_baseline_is_the_more_frequent_label():
    data = report_data(predictions_of("test", 400, positive_fraction=0.1))
    share = 1 - data.figures["test"]["positive_fraction"]
    assert f"“negative” for every text, {share:.1%}" in Outline(write(data)).text


def test_every_figure_of_every_split_is_on_the_page(data, page):
    text = Outline(page).text
    for figures in data.figures.values():
        for name in ("f1_macro", "matthews", "roc_auc", "average_precision"):
            assert f"{figures[name]:.4f}" in text, name
        for name in ("f1_positive", "f1_negative", "log_loss", "brier"):
            assert f"{figures[name]:.4f}" in text, name
        assert f"{figures['expected_calibration_error']:.4f}" in text
        for name in ("accuracy", "positive_fraction"):
            assert f"{figures[name]:.1%}" in text, name
        for name in ("precision_positive", "recall_negative"):
            assert f"{figures[name]:.1%}" in text, name
    for cell in ("true_positive", "false_positive", "true_negative", "false_negative"):
        assert f"{data.figures['test'][cell]:,}" in text, cell


def test_test_stands_before_validation(page):
    assert re.search(r"Figure\s+test\s+validation", Outline(page).text)


def test_settings_lineage_counts_and_versions_are_on_the_page(page):
    text = Outline(page).text
    assert "train.model.cell gru train.num_epochs 3 train.init_from null" in text
    assert "CSV /data/tweets.csv sha256:ab12 model /m sha256:cd34" in text
    assert "read 1,600,000 scored with the prior only 412" in text
    assert "torch 2.13.0 ray 2.60.0" in text
    assert "2026-03-01 13:05 UTC" in text


def test_the_page_needs_nothing_but_itself(page):
    tags = Outline(page).tags
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in tags}
    addresses = [
        value
        for _, attributes in tags
        for name, value in attributes.items()
        if name in ("src", "srcset", "href", "data", "action", "poster")
    ]
    assert len(addresses) == len(ALL_PLOTS)
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
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


def test_headings_descend_and_images_speak_in_numbers(page):
    tags = Outline(page).tags
    headings = [tag for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1"
    assert set(headings[1:]) == {"h2"}
    alts = [attributes["alt"] for tag, attributes in tags if tag == "img"]
    assert len(alts) == len(ALL_PLOTS)
    assert all(re.search(r"\d", alt) and alt.endswith(".") for alt in alts)
    assert any("validation accuracy is highest, 80.3%, after epoch 2" in alt for alt in alts)
    assert all(attributes.get("scope") for tag, attributes in tags if tag == "th")


def test_markup_in_names_and_settings_is_shown_not_run(predictions):
    hostile = report_data(
        predictions.replace({"split": {"validation": SCRIPT}}),
        name=SCRIPT,
        counts={SCRIPT: 1},
        settings={SCRIPT: {"x": SCRIPT}, "list": [SCRIPT]},
        lineage=[(SCRIPT, SCRIPT, SCRIPT)],
        versions={SCRIPT: SCRIPT},
    )
    page = write(hostile)
    outline = Outline(page)
    assert "script" not in {tag for tag, _ in outline.tags}
    assert "<script" not in page
    assert outline.text.count(SCRIPT) == 12


def test_a_quote_in_a_name_stays_inside_its_attribute(predictions):
    page = write(report_data(predictions, versions={'"><b onload="x': "1"}))
    assert not any("onload" in attributes for _, attributes in Outline(page).tags)


def test_the_only_split_takes_the_place_of_test():
    data = report_data(predictions_of("validation", 300))
    assert data.split == "validation"
    plots = render_plots(data)
    assert set(plots) == ALL_PLOTS
    text = Outline(render_page(data, plots)).text
    assert "of the validation texts correctly" in text
    assert "not trained on" not in text


def test_one_class_leaves_out_what_needs_two(predictions):
    positive = predictions[(predictions["split"] == "test") & (predictions["label"] == 1)]
    data = report_data(positive)
    plots = render_plots(data)
    assert set(plots) == ALL_PLOTS - {"roc.png", "precision_recall.png"}
    text = Outline(render_page(data, plots)).text
    assert "need both classes" in text
    assert "ranks above a negative one —" in text


def test_without_labelled_rows_the_page_says_so(predictions):
    empty = predictions.iloc[:0]
    nothing = {"test": binary_figures(label=[], probability=[], prediction=[])}
    for figures in ({}, nothing):
        data = report_data(empty, figures=figures, curve=None)
        assert render_plots(data) == {}
        assert "No labelled text to judge the model by" in Outline(render_page(data, {})).text


def test_a_report_without_a_curve_has_no_training_section(predictions):
    for curve in (None, report_data(predictions).curve.iloc[:0]):
        data = report_data(predictions, curve=curve)
        plots = render_plots(data)
        assert "training_curve.png" not in plots
        assert "Training" not in Outline(render_page(data, plots)).text


def test_a_training_that_diverged_is_reported(predictions):
    curve = report_data(predictions).curve
    curve.loc[1:, ["train_loss", "validation_loss"]] = np.nan
    data = report_data(predictions, curve=curve)
    assert "training_curve.png" in render_plots(data)
    assert "3 nan nan 79.6%" in Outline(write(data)).text


CHROMIUM = shutil.which("chromium")

BROWSER = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

PROBE = """<script>
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(d => d.open = true);
  parent.document.title = JSON.stringify({
    window_width: innerWidth,
    page_width: document.documentElement.scrollWidth,
    image_widths: [...document.images].map(image => image.naturalWidth),
    background: getComputedStyle(document.body).backgroundColor,
  });
});
</script>"""


def framed(page, *, width):
    """Put ``page`` into a frame of ``width``: a browser window is never under 500 pixels wide."""
    document = html.escape(page)
    return f"""<!DOCTYPE html><html style="color-scheme: light dark"><title></title><body>
        <iframe width="{width}" height="900" style="border: 0" srcdoc="{document}"></iframe>
        </body></html>"""


def title_in_browser(page, tmp_path, *options):
    """Load ``page`` in a fresh profile and return its title once everything has run."""
    file = tmp_path / "page.html"
    file.write_text(page, encoding="utf-8")
    command = [CHROMIUM, *BROWSER, f"--user-data-dir={tmp_path / 'profile'}", *options]
    done = subprocess.run(
        [*command, "--dump-dom", file.as_uri()],
        capture_output=True,
        check=True,
        encoding="utf-8",
        timeout=120,
    )
    return re.search("<title>(.*?)</title>", done.stdout, re.DOTALL)[1]


@pytest.mark.browser
@pytest.mark.timeout(150)
@needs_browser
@pytest.mark.parametrize(
    ("width", "scheme", "background"),
    [(400, 0, "rgb(21, 24, 28)"), (1400, 1, "rgb(255, 255, 255)")],
)
def test_the_page_fits_the_window_in_dark_and_light(
    predictions, plots, tmp_path, width, scheme, background
):
    data = report_data(
        predictions,
        name="n" * 200,
        counts={"c" * 90: 10**12},
        settings={"k" * 90: {"v": "z" * 200}},
        lineage=[("w" * 90, "u" * 200, "f" * 100)],
        versions={"l" * 90: "v" * 90},
    )
    # The policy stays but for the probe: what it forbids images and styles is under test too.
    page = render_page(data, plots).replace("img-src", "script-src 'unsafe-inline'; img-src", 1)
    title = title_in_browser(
        framed(page.replace("</body>", f"{PROBE}</body>"), width=width),
        tmp_path,
        "--hide-scrollbars",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    seen = json.loads(html.unescape(title))
    assert seen["window_width"] == width
    assert seen["page_width"] == width
    assert len(seen["image_widths"]) == len(ALL_PLOTS)
    assert min(seen["image_widths"]) > 400
    assert seen["background"] == background


@pytest.mark.browser
@pytest.mark.timeout(150)
@needs_browser
def test_no_script_runs_in_the_page(page, tmp_path):
    injected = page.replace("</body>", f"{SCRIPT}</body>")
    assert title_in_browser(injected, tmp_path) == "quickstart · sentiflow report"
