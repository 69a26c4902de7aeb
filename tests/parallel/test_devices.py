"""Simulated devices get threads enough to wait for one another."""

import os

import pytest

import rl_reasoning

CORES = os.cpu_count() or 1


@pytest.mark.parametrize(("environment", "found"), [
    ({"JAX_NUM_CPU_DEVICES": "100"}, "200"),
    ({"XLA_FLAGS": "--xla_dump_to=x --xla_force_host_platform_device_count=100"}, "200"),
    ({"JAX_NUM_CPU_DEVICES": "100", "XLA_FLAGS": "--xla_force_host_platform_device_count=50"}, "200"),
    ({"JAX_NUM_CPU_DEVICES": "2"}, str(max(4, CORES))),
    ({"JAX_NUM_CPU_DEVICES": "100", "NPROC": "3"}, "3"),
    ({"JAX_NUM_CPU_DEVICES": "1"}, None),
    ({"JAX_NUM_CPU_DEVICES": "many"}, None),
    ({}, None),
], ids=str)
def test_there_are_two_threads_for_each_simulated_device(environment, found):
    rl_reasoning.make_room_for_devices(environment)
    assert environment.get("NPROC") == found


def test_the_tests_have_them():
    assert int(os.environ["NPROC"]) >= 16
