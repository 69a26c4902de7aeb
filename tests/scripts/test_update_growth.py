"""The tables of what an update costs."""

import pytest

from tests.scripts.loading import load


@pytest.fixture(name="growth")
def the_script(monkeypatch):
    return load("update_growth", monkeypatch)


def test_one_thing_at_a_time_is_doubled(growth):
    base = growth.Setting()
    rows = list(growth.grown(base, 2))
    assert [setting.devices for name, setting in rows if name == "devices"] == [1, 2, 4, 8]
    assert [setting.config.layers for name, setting in rows if name == "layers"] == [4, 8, 16]
    for name, setting in rows:
        assert {key for key in vars(base) if getattr(base, key) != getattr(setting, key)} <= {name}


@pytest.mark.slow
def test_twice_the_rows_take_twice_the_memory_and_half_of_it_on_two_devices(growth):
    def memory(**changes):
        setting = growth.Setting(longest=16, layers=1, vocabulary=64, width=32, **changes)
        return growth.measured(setting)["temporaries_mb"]

    one, more, shared = memory(rows=16), memory(rows=32), memory(rows=16, devices=2)
    assert 1.6 < more / one < 2.2
    assert 0.4 < shared / one < 0.7
