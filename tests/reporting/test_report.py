"""The report: whole, self-contained, safe with any text, honest about what it does not know."""

import base64
import hashlib
import html.parser
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from rl_reasoning.reporting.page import text
from rl_reasoning.reporting.report import write_report
from rl_reasoning.reporting.samples import choose

ATTACK = '<script>alert("x")</script><img src=https://example.com/x onerror=alert(1)>\x00\u202e'
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Outline(html.parser.HTMLParser):
    """Collects tags and attributes, and sees that every tag is closed in order."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def written(make_run, tmp_path):
    def write(*folders):
        return write_report(tmp_path / "report.html", list(folders) or [make_run()], "A <run>").read_text("utf-8")

    return write


@pytest.fixture(scope="module")
def plain(make_run_in, tmp_path_factory):
    """The report of one run, for the tests that only read it."""
    parent = tmp_path_factory.mktemp("runs")
    return write_report(parent / "report.html", [make_run_in(parent)], "A <run>").read_text("utf-8")


def assert_self_contained(source):
    outline = Outline(source)
    assert outline.open == []
    assert not {"img", "link", "iframe", "object", "embed", "base", "form"} & set(outline.tags)
    blocks = re.findall(r"<script([^>]*)>(.*?)</script>", source, re.DOTALL)
    assert outline.tags.count("script") == len(blocks)
    assert [attributes for attributes, _ in blocks] in ([], [' type="application/json" id="answers"', ""])
    for _, content in blocks[1:]:
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in source, "the page lets its own script run and no other"
    for name, value in outline.attributes:
        assert not name.startswith("on")
        assert name not in {"src", "srcset", "href", "action"}
        if name == "xlink:href":
            assert value.startswith("#")
    assert not re.search(r"@import|url\((?!#)", source)
    places = re.findall(r"https?://[^\s\"'<]*", re.sub(r' xmlns(:xlink)?="[^"]*"', "", source))
    assert places == []


def test_one_run(plain):
    assert_self_contained(plain)
    assert "<h1>A &lt;run&gt;</h1>" in plain
    for part in (
        "Pass@k on held-out problems",
        "Training by reinforcement learning",
        "Warm start of the base",
        "Held-out answers",
        "Sample answers",
        "Settings and versions",
        "jax 0.10.2",
        "What the words mean",
    ):
        assert part in plain
    assert "W-REINFORCE, 10 steps: Pass@1 43.8 → 60.4 (+16.7" in plain
    assert "One seed a run" in plain
    assert "Breadth against accuracy" not in plain, "two evaluations are no path"


def test_several_runs(written, make_run):
    paths = {5: (1, 2, 3, 4, 6, 8), 10: (2, 3, 4, 5, 7, 8)}
    source = written(*(make_run(algorithm=name, evaluations=paths) for name in ("psr", "nsr", "grpo")))
    assert_self_contained(source)
    assert "Breadth against accuracy" in source
    assert "All evaluations along training" in source
    assert "6 intervals are read here together" in source
    for name in ("PSR", "NSR", "GRPO"):
        assert f"{name}, 10 steps" in source


def test_seeds_are_aggregated(written, make_run):
    source = written(*(make_run(seed=seed) for seed in (0, 1, 2)))
    assert "W-REINFORCE, 10 steps, 3 seeds" in source
    assert "One seed a run" not in source
    assert source.count("the base (star)") == 0


def test_same_folders_same_bytes(written, make_run):
    folder = make_run()
    assert written(folder) == written(folder)


def test_text_of_a_model_stays_text(written, make_run):
    source = written(make_run(text=ATTACK))
    assert_self_contained(source.replace("https://example.com/x", ""))
    data = json.loads(re.search(r'id="answers">(.*?)</script>', source, re.DOTALL)[1])
    assert any(answer["text"] == ATTACK for row in data["problems"] for policy in row["policies"]
               for answer in policy["answers"]), "the browser gets the text as it was, and writes text nodes only"
    assert source.count("<script") == 2
    assert "&lt;script&gt;alert(" in source
    assert "\x00" not in source
    assert "\u202e" not in source
    assert "\\x00\\u202e" in source


def test_settings_stay_text(written, make_run):
    assert_self_contained(written(make_run(name="</pre><script>1</script>")))


def test_the_page_forbids_loading_and_running(plain):
    assert "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" in plain


def test_a_run_without_evaluations_still_has_a_report(written, make_run):
    folder = make_run()
    folder.rewind("warm_start", 2)
    source = written(folder)
    assert "no evaluation of the base and of a trained policy yet" in source
    assert "Warm start of the base" in source
    assert_self_contained(source)


def test_metrics_that_never_change_take_a_line_and_no_picture(plain):
    assert "The same at every step: loss/kl = 0" in plain
    assert 'aria-label="loss/kl by step"' not in plain
    assert 'aria-label="policy/entropy by step"' in plain


def test_a_metric_that_nobody_knows_is_shown(written, make_run):
    folder = make_run()
    for step in (11, 12):
        folder.append_metrics(step, "rl", {"new/metric": float(step), "broken": np.nan})
    source = written(folder)
    assert 'aria-label="new/metric by step"' in source
    assert "broken = nan" in source


def test_outcomes_are_counted(plain):
    """Base: 21 of 48 right; every problem but the one with 8 right has one unparsable answer."""
    assert "<td>21<small>43.8 %</small></td><td>22<small>45.8 %</small></td><td>5<small>10.4 %</small></td>" in plain


def test_glossary_explains_only_what_is_there(plain):
    assert "<dt>policy/entropy</dt>" in plain
    assert "<dt>ratio/log_max</dt>" not in plain


def test_unscorable_and_truncated_answers_are_said_up_front(written, make_run):
    folder = make_run()
    record = folder.evaluations()[-1] | {"unscorable": 0.015, "truncated": 0.25}
    folder.write_evaluation(record, list(folder.samples("step_0010")))
    source = written(folder)
    assert "1.5 % of the answers could not be checked" in source
    assert "25.0 % of the answers ran out of room" in source


def test_no_folders_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="at least one run folder"):
        write_report(tmp_path / "report.html", [], "x")


def test_choose_takes_from_every_outcome():
    samples = [{"outcome": "right", "at": at} for at in range(90)] + [{"outcome": "crash", "at": 90}]
    samples += [{"outcome": "wrong", "at": at} for at in range(91, 93)]
    chosen = choose(samples, 10)
    assert [each["outcome"] for each in chosen] == ["right"] * 7 + ["wrong"] * 2 + ["crash"]
    places = [each["at"] for each in chosen[:7]]
    assert places == sorted(set(places))
    assert places[0] < 15
    assert places[-1] > 75
    assert choose(samples[:3], 10) == samples[:3]
    assert choose([], 10) == []


def test_text_shows_what_cannot_be_seen():
    assert text("a<b>&\"'\n\té\u2603\x1b\u200b\ud800") == "a&lt;b&gt;&amp;&quot;&#x27;\n\té\u2603\\x1b\\u200b\\ud800"


def test_t58_importing_the_reports_loads_no_framework():
    """Nor matplotlib and TensorBoard before something is drawn or written."""
    modules = ("report", "writers", "console", "run_folder")
    program = "; ".join(
        [
            "import sys",
            *(f"import rl_reasoning.reporting.{name}" for name in modules),
            "sys.stdout.write(' '.join(sys.modules))",
        ]
    )
    root = pathlib.Path(__file__).parents[2]
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root, timeout=60
    )
    assert not {"jax", "matplotlib", "tensorboardX", "flax"} & set(loaded.stdout.split())


def test_gained_and_lost_problems_are_counted(make_run, written):
    """The base solves 1 to 5 of 6; the run loses the easiest of these and gains problem 0."""
    folder = make_run(evaluations={10: (2, 0, 3, 4, 5, 8)})
    for record in folder.evaluations():
        folder.write_summary(record | {"ids": [f"problem-{i}" for i in range(6)]},
                             [f"problem-{i}" for i in range(6)])
    source = written(folder)
    assert "<td>Base → W-REINFORCE, step 10</td><td>5</td><td>5</td><td>1</td><td>1</td>" in source
    assert "gained by W-REINFORCE</dt><dd>problem-0 (0 → 2)</dd>" in source
    assert "lost by W-REINFORCE</dt><dd>problem-1 (1 → 0)</dd>" in source


def test_speed_is_a_training_curve(make_run, written):
    folder = make_run()
    folder.append_timings(11, "rl", {"tokens_per_second": 39000.0})
    assert 'aria-label="tokens_per_second by step"' in written(folder)
