"""The documentation: what comes from the code is up to date, links lead somewhere, and the README's lines work."""

import dataclasses
import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys
import textwrap

import pytest

from rl_reasoning import edge, options
from rl_reasoning.config import Countdown as CountdownSettings
from rl_reasoning.config import Verifier
from rl_reasoning.loop.setup import build, make_verifier
from rl_reasoning.models.published import sizes_of
from rl_reasoning.plan.chips import chip_of
from rl_reasoning.tasks.countdown import Countdown
from tests.models import gguf_fixture

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_generated_parts_are_up_to_date(capsys):
    path = ROOT / "scripts" / "generate_docs.py"
    spec = importlib.util.spec_from_file_location("generate_docs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(["--check"]) == 0, capsys.readouterr().out + ": run scripts/generate_docs.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text("utf-8")):
        path, _, heading = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        headings = [re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
                    for line in re.findall(r"^#+ (.*)$", found.read_text("utf-8"), re.MULTILINE)] if heading else []
        assert not heading or heading in headings, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page):
    named = re.findall(r"(?:experiments|scripts|rl_reasoning|tests)/[\w/]+\.(?:py|sh|ipynb)\b", page.read_text("utf-8"))
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_are_named_exist(page):
    text = page.read_text("utf-8")
    known = edge.describe()
    named = set(re.findall(r"--config\.([a-z_]+(?:\.[a-z_]+)*)", text))
    groups = ("objective.", "mesh.rules.", "task.gym.options.")
    assert not [name for name in named if not name.startswith(groups) and f"config.{name}" not in known]


def commands(script):
    """The arguments of a script in every command of the pages, placeholders included."""
    for page in PAGES:
        for line in re.findall(rf"^    (?:\S.*)?{script}((?:.*\\\n)*.*)$", page.read_text("utf-8"), re.MULTILINE):
            if "..." not in line:
                yield shlex.split(line.replace("\\\n", " "), comments=True)


RUNS = [command for script in (r"scripts/quickstart\.sh", r"experiments/run\.py") for command in commands(script)]


@pytest.mark.parametrize("command", RUNS, ids=" ".join)
def test_commands_that_run_something_are_accepted_with_their_algorithms_options(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    if any(":runs/" in part for part in command):
        with pytest.raises(edge.ConfigError, match="no run folder"):
            edge.read_command(["run.py", *command], "")
        return
    experiment = edge.read_command(["run.py", *command], "experiments/configs/countdown.py")
    options.check(experiment.algorithm, options.resolve(experiment.algorithm, experiment.objective), experiment)


def test_commands_that_plan_know_their_slice_and_sizes(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = list(commands(r"scripts/plan\.py"))
    assert len(found) >= 2
    for command in found:
        own = dict(part[2:].split("=", 1) for part in command if not part.startswith("--config"))
        experiment = edge.read_command(["plan.py", *(part for part in command if part.startswith("--config"))],
                                       "experiments/configs/countdown.py")
        assert chip_of(own["topology"])
        assert sizes_of(own.get("model") or experiment.model.source)
        assert set(own) <= {"topology", "model", "prompt-tokens"}


def readme_code(section, name):
    """The file that a section of the README shows: at most ten lines."""
    text = (ROOT / "README.md").read_text("utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    code = textwrap.dedent(re.search(rf"    # {name}\.py\n(?:(?:    .*)?\n)+?(?=    \S*python)", text)[0])
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    return text, code


def test_the_readme_shows_a_verifier_of_your_own_and_it_works(tmp_path, monkeypatch):
    _, code = readme_code("Your own verifier", "my_reward")
    (tmp_path / "my_reward.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    task, settings = Countdown(CountdownSettings()), Verifier(function="my_reward:score", workers=1)
    problem = task.train_problems()[0]
    with make_verifier(task, settings) as pool:
        found = pool.verify_all([(problem, f"it is {problem.answer}"), (problem, "7000"), (problem, "")])
    assert [verdict.reward for verdict in found] == [1.0, pytest.approx(0.1), 0.0]


@pytest.mark.slow
def test_the_profile_of_a_run_is_written_as_the_tpu_guide_says(tmp_path):
    text = (ROOT / "docs" / "tpu.md").read_text("utf-8")
    program = textwrap.dedent(re.search(r"<<'PROFILE'\n(.*?)    PROFILE\n", text, re.DOTALL)[1])
    subprocess.run([sys.executable, "-"], input=program.replace("runs/", f"{tmp_path}/"), cwd=ROOT, text=True,
                   check=True, timeout=600, env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)})
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))
    assert list((tmp_path / "profiled").rglob("report.html"))


def test_the_readme_shows_problems_of_your_own_in_ten_lines_and_they_work(tmp_path, monkeypatch):
    section, code = readme_code("Your own problems", "my_task")
    command = re.search(r"python (experiments/run\.py .*)", section, re.DOTALL)[1].replace("\\\n", " ").split()
    (tmp_path / "my_task.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    model = gguf_fixture.write(tmp_path / "tiny.gguf", gguf_fixture.metadata() | {"llama.context_length": 1024})
    command = [part.replace("=experiments/", f"={ROOT}/experiments/") for part in command]
    lab = build(edge.read_command([*command, f"--config.model.source={model}", "--config.model.lora.rank=0",
                                   "--config.model.precision.parameters=float32"], ""))
    try:
        assert {problem.id for problem in lab.held_out}.isdisjoint(problem.id for problem in lab.train)
        problem = lab.train[0]
        texts = [f"It is {problem.answer}.", "It is 1.", ""]
        assert [v.reward for v in lab.verifier.verify_all((problem, text) for text in texts)] == [1.0, 0.0, 0.0]
    finally:
        lab.verifier.close()


@pytest.mark.parametrize(("changes", "named"), [
    ({"problems": "nowhere:problems"}, r"task\.own\.problems='nowhere:problems' could not be called: ModuleNotFound"),
    ({"problems": "my_own:none"}, r"could not be called: RuntimeError: no file"),
    ({"problems": "my_own:texts"}, r"item 0 is a str, not a rl_reasoning\.types\.Problem"),
    ({"problems": "my_own:twins"}, r"2 problems have 1 ids"),
])
def test_t61_problems_of_your_own_that_cannot_be(tmp_path, monkeypatch, changes, named):
    (tmp_path / "my_own.py").write_text(
        "from rl_reasoning.types import Problem\n"
        "def none(): raise RuntimeError('no file')\n"
        "def texts(): return ['a']\n"
        "def twins(): return [Problem('a', 'x', 1, 'own')] * 2\n")
    monkeypatch.chdir(tmp_path)
    from rl_reasoning.config import Own
    from rl_reasoning.tasks.own import OwnTask

    with pytest.raises(ValueError, match=named):
        OwnTask(dataclasses.replace(Own(), **changes))
