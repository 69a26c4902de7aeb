"""The console: a live bar on a terminal, few plain lines elsewhere, the metrics as they are."""

import io

import pytest

from rl_reasoning.reporting.console import Progress, describe, say

METRICS = {"reward/mean": 0.3125, "reward/right": 0.25, "policy/entropy": 0.28549, "length/mean": 10.94, "other": 1.0}


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Seconds that go forward by `tick` at each reading."""

    def __init__(self, tick):
        self.now, self.tick = -tick, tick

    def __call__(self):
        self.now += self.tick
        return self.now


def test_describe_shows_what_is_there():
    line = describe(METRICS, 41234.5)
    assert line == "reward 0.312 | Pass@1 25.0 | entropy 0.285 | length 10.9 | 41,234 tokens/s"
    assert describe({"loss/supervised": 1.5, "token_accuracy": 0.875}) == "loss 1.500 | token accuracy 87.5"
    assert describe({"reward/mean": float("nan")}, float("nan")) == "reward nan"
    assert describe({}) == ""


def test_plain_lines_are_few_and_have_the_first_and_the_last():
    stream = io.StringIO()
    with Progress(100, "rl", stream, seconds=5.0, clock=Clock(0.5)) as progress:
        for step in range(1, 101):
            progress.update(step, METRICS, 1000.0)
    lines = stream.getvalue().splitlines()
    assert [line.split(" | ")[0] for line in lines] == [f"rl {step}/100" for step in (1, *range(11, 100, 10), 100)]
    assert lines[0] == (
        "rl 1/100 | reward 0.312 | Pass@1 25.0 | entropy 0.285 | length 10.9 | 1,000 tokens/s"
    )
    assert lines[-1].endswith("done in 0:50")


def test_time_left_after_a_restart_counts_only_this_process():
    stream = io.StringIO()
    with Progress(100, "rl", stream, seconds=0.0, clock=Clock(60.0)) as progress:
        progress.update(91, {})
        progress.update(92, {})
    assert stream.getvalue().splitlines() == ["rl 91/100", "rl 92/100 | 8:00 left"]


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    stream = Terminal()
    with Progress(4, "rl", stream, clock=Clock(1.0)) as progress:
        progress.update(1, METRICS, 1000.0)
        progress.say("checkpoint [bold]kept[/bold]")
        progress.update(4, METRICS, 1000.0)
    shown = stream.getvalue()
    assert "4/4" in shown
    assert "entropy 0.285" in shown
    assert "checkpoint [bold]kept[/bold]\n" in shown


def test_the_bar_never_wraps(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    with Progress(4, "rl", stream, clock=Clock(1.0)) as progress:
        progress.update(4, METRICS, 1000.0)
    assert stream.getvalue().count("\n") <= 1


@pytest.mark.parametrize("text", ["plain", "[red]brackets[/red]", "100 % {done}"])
def test_say_is_one_unchanged_line(text):
    stream = io.StringIO()
    say(text, stream)
    with Progress(1, "rl", stream) as progress:
        progress.say(text)
    assert stream.getvalue() == f"{text}\n{text}\n"


def test_nothing_is_written_for_a_phase_of_no_steps():
    stream = io.StringIO()
    with Progress(0, "warm start", stream):
        pass
    assert stream.getvalue() == ""
