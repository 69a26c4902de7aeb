"""What the sample browser is given, and in a real browser that it works. The latter needs chromium."""

import json
import re
import shutil
import subprocess

import pytest

from rl_reasoning.reporting import figures
from rl_reasoning.reporting.browser import MOST_ANSWERS, MOST_PROBLEMS, browser_data
from rl_reasoning.reporting.report import write_report
from rl_reasoning.reporting.results import collect

EVERY = {"right", "wrong", "unparsable"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, which .ci/run installs where it may")


@pytest.fixture(scope="module")
def run(make_run_in, tmp_path_factory):
    """A run whose trained policy's first answers carry their tokens."""
    folder = make_run_in(tmp_path_factory.mktemp("runs"))
    record = folder.evaluations()[-1]
    samples = [sample | ({"tokens": [["1", -0.1, 0.5], ["+", -3.0, -1.0], ["</script>", -0.01, 0.0]]}
                         if sample["sample"] in (1, 6) else {}) for sample in folder.samples(record["label"])]
    folder.write_evaluation(record, samples)
    return folder


def test_easy_problems_first_and_a_few_answers_of_each_kind(run):
    results = collect([run])
    data = browser_data(results, figures.style([each.name for each in results]))
    assert [policy["name"] for policy in data["policies"]] == ["Base", "W-REINFORCE, step 10"]
    assert len(data["problems"]) == 6 <= MOST_PROBLEMS
    trained = [row["policies"][1] for row in data["problems"]]
    assert {(policy["right"], policy["total"]) for policy in trained} == {(n, 8) for n in (2, 3, 4, 5, 7, 8)}
    for policy in trained:
        rights = [answer["verdict"] == "right" for answer in policy["answers"]]
        assert (rights.count(True), rights.count(False)) == (min(policy["right"], MOST_ANSWERS),
                                                             min(8 - policy["right"], MOST_ANSWERS))
    first = trained[0]["answers"][0]
    assert (first["sample"], first["tokens"][1]) == (1, ["+", -3.0, -1.0]), "answers with tokens go first"
    assert data["verdicts"] == ["all", "right", "wrong", "unparsable"]


def test_nothing_in_the_data_ends_its_block(run, tmp_path):
    source = write_report(tmp_path / "report.html", [run], "x").read_text("utf-8")
    assert source.count("</script>") == 2
    block = re.search(r'id="answers">(.*?)</script>', source, re.DOTALL)[1]
    assert "</script>" in json.loads(block)["problems"][0]["policies"][1]["answers"][0]["tokens"][2]


def test_an_answer_without_log_probabilities_is_shown_all_the_same(make_run_in, tmp_path):
    """Null is how the files write what is not finite."""
    folder = make_run_in(tmp_path)
    record = folder.evaluations()[-1]
    folder.write_evaluation(record, [sample | {"logprob": None, "tokens": [["1", None, None]]}
                                     for sample in folder.samples(record["label"])])
    results = collect([folder])
    data = browser_data(results, figures.style([each.name for each in results]))
    shown = data["problems"][0]["policies"][1]["answers"][0]
    assert (shown["logprob"], shown["tokens"]) == (None, [["1", None, None]])


def chromium(*arguments):
    """Standard output and error of one headless start."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
               "--virtual-time-budget=5000", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("page") / "report.html", [run], "In a browser")


@in_chromium
@pytest.mark.slow
@pytest.mark.parametrize(("view", "verdicts", "shaded"), [
    ("", EVERY, False), ("#problem=2&verdict=wrong", {"wrong"}, False),
    ("#verdict=right&colour=logprob", {"right"}, True), ("#problem=1&colour=change", EVERY, True),
    ("#problem=99&verdict=none&colour=pink", EVERY, False)])
def test_it_opens_filters_and_colours(page, view, verdicts, shaded):
    ended = chromium("--dump-dom", page.as_uri() + view)
    assert "CONSOLE" not in ended.stderr, ended.stderr
    shown = ended.stdout[ended.stdout.index('id="browser"'):ended.stdout.index('id="answers"')]
    found = re.findall(r'class="sample answer".*?<strong>(\w+)</strong>', shown)
    assert found
    assert set(found) <= verdicts
    assert shaded == ("background: rgba(" in shown)
    blue = "rgba(0, 114, 178" in shown
    assert blue == ("colour=change" in view), "only a change can be a rise"


@in_chromium
@pytest.mark.slow
def test_a_screenshot_is_no_blank(page, tmp_path):
    from matplotlib.image import imread

    for width in (400, 1200):
        target = tmp_path / f"{width}.png"
        chromium(f"--window-size={width},2400", f"--screenshot={target}", page.as_uri())
        pixels = imread(target)[..., :3]
        assert pixels.shape[0] == 2400
        assert (pixels.min(axis=2) < 0.9).mean() > 0.01
        assert pixels[:, -2:].min() > 0.9, "nothing runs over the right edge"
