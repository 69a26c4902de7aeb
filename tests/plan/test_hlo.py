"""What is read from a compiled program's text equals what is known of the program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rl_reasoning.plan import hlo

WINDOWED = """HloModule windowed

%body (p: (bf16[8,4], u32[])) -> (bf16[8,4], u32[]) {
  %two = u32[]{:T(128)} constant(2)
  %p = (bf16[8,4]{1,0}, u32[]) parameter(0)
  %x = bf16[8,4]{1,0} get-tuple-element(%p), index=0
  %count = u32[] get-tuple-element(%p), index=1
  %more = u32[] add(%count, %two)
  %w = bf16[4,4]{1,0:S(1)} constant(0)
  %y = bf16[8,4]{1,0:T(8,128)(2,1)S(1)} convolution(%x, %w), dim_labels=bf_io->bf
  ROOT %t = (bf16[8,4]{1,0}, u32[]) tuple(%y, %more)
}

%condition (p: (bf16[8,4], u32[])) -> pred[] {
  %bound = u32[]{:T(128)} constant(10)
  %p = (bf16[8,4]{1,0}, u32[]) parameter(0)
  %count = u32[] get-tuple-element(%p), index=1
  ROOT %c = pred[] compare(%count, %bound), direction=LT
}

ENTRY %main (x: bf16[8,4]) -> bf16[8,4] {
  %x = bf16[8,4]{1,0} parameter(0)
  %zero = u32[] constant(0)
  %start = (bf16[8,4]{1,0}, u32[]) tuple(%x, %zero)
  %loop = (bf16[8,4]{1,0}, u32[]) while(%start), condition=%condition, body=%body
  %out = bf16[8,4]{1,0} get-tuple-element(%loop), index=0
  %all = bf16[16,4]{1,0} all-gather(%out), replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}
  %half = bf16[8,4]{1,0} all-reduce(%out), replica_groups={{0,1}}, to_apply=%add
  ROOT %done = bf16[8,4]{1,0} slice(%all), slice={[0:8], [0:4]}
}
"""


def compiled(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().as_text()


@pytest.mark.parametrize("turns", [1, 7])
def test_a_loops_body_counts_as_often_as_it_runs(turns):
    def run(x):
        return jax.lax.scan(lambda c, _: (c @ c, None), x, None, length=turns)[0]

    work = hlo.read(compiled(run, jnp.ones((8, 8))))
    assert work.flops == turns * 2 * 8**3
    assert work.open_loops == []


def test_a_loop_that_ends_by_what_it_computes_is_named_and_counts_once():
    def run(x):
        return jax.lax.while_loop(lambda c: c.sum() < 1e9, lambda c: c @ c, x)

    work = hlo.read(compiled(run, jnp.ones((8, 8))))
    assert work.flops == 2 * 8**3
    assert len(work.open_loops) == 1


def test_several_turns_in_one_and_memory_within_the_chip():
    """The compiler put two turns of ten into one body, whose product stays near the matrix unit."""
    work = hlo.read(WINDOWED)
    assert work.flops == 5 * 2 * 8 * 4 * 4
    assert work.collectives == {"all-gather": 16 * 4 * 2 * 3 / 4, "all-reduce": 2 * 8 * 4 * 2 / 2}


STARTED = """HloModule started

ENTRY %main (x: bf16[64,8]) -> bf16[16,8] {
  %x = bf16[64,8]{1,0} parameter(0)
  %copied = (bf16[64,8]{1,0:S(1)}, bf16[64,8]{1,0}, u32[]{:S(2)}) copy-start(%x)
  %there = bf16[64,8]{1,0:S(1)} copy-done(%copied)
  %cut = ((bf16[64,8]{1,0}), bf16[16,8]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:16], [0:8]}
  ROOT %part = bf16[16,8]{1,0:S(1)} slice-done(%cut)
}
"""


def test_what_is_brought_into_the_chip_ahead_of_time_is_read_once():
    """All of x by the copy, a quarter of it by the slice; both are written to memory within the chip."""
    assert hlo.read(STARTED).bytes == 64 * 8 * 2 + 16 * 8 * 2


SPREAD = """HloModule spread

%begin (p: bf16[4,8]) -> (bf16[4,8], bf16[16,8]) {
  %p = bf16[4,8]{1,0} parameter(0)
  %g = bf16[16,8]{1,0} all-gather(%p), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}
  ROOT %t = (bf16[4,8]{1,0}, bf16[16,8]{1,0}) tuple(%p, %g)
}

%go_on (p: bf16[4,8], q: bf16[16,8], x: bf16[8,8]) -> (bf16[8,8], bf16[4,8], bf16[16,8]) {
  %p = bf16[4,8]{1,0} parameter(0)
  %q = bf16[16,8]{1,0} parameter(1)
  %x = bf16[8,8]{1,0} parameter(2)
  %g = bf16[16,8]{1,0} all-gather(%p), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}
  %y = bf16[8,8]{1,0} convolution(%x, %x), dim_labels=bf_io->bf
  ROOT %t = (bf16[8,8]{1,0}, bf16[4,8]{1,0}, bf16[16,8]{1,0}) tuple(%y, %p, %g)
}

%finish (p: bf16[4,8], q: bf16[16,8]) -> bf16[16,8] {
  %p = bf16[4,8]{1,0} parameter(0)
  %q = bf16[16,8]{1,0} parameter(1)
  ROOT %g = bf16[16,8]{1,0} all-gather(%p), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}
}

ENTRY %main (p: bf16[4,8], x: bf16[8,8]) -> bf16[16,8] {
  %p = bf16[4,8]{1,0} parameter(0)
  %x = bf16[8,8]{1,0} parameter(1)
  %a = (bf16[4,8]{1,0}, bf16[16,8]{1,0}) fusion(%p), kind=kCustom, \
output_to_operand_aliasing={{0}: (0, {})}, calls=%begin
  %a0 = bf16[4,8]{1,0} get-tuple-element(%a), index=0
  %a1 = bf16[16,8]{1,0} get-tuple-element(%a), index=1
  %b = (bf16[8,8]{1,0}, bf16[4,8]{1,0}, bf16[16,8]{1,0}) fusion(%a0, %a1, %x), kind=kOutput, \
output_to_operand_aliasing={{1}: (0, {}), {2}: (1, {})}, calls=%go_on
  %b0 = bf16[4,8]{1,0} get-tuple-element(%b), index=1
  %b1 = bf16[16,8]{1,0} get-tuple-element(%b), index=2
  ROOT %c = bf16[16,8]{1,0} fusion(%b0, %b1), kind=kCustom, output_to_operand_aliasing={{}: (1, {})}, calls=%finish
}
"""


def test_a_collective_spread_over_fusions_counts_once():
    """The gather is written once, by the first; the second reads and writes what it multiplies meanwhile."""
    work = hlo.read(SPREAD)
    assert work.collectives == {"all-gather": 16 * 8 * 2 * 3 / 4}
    assert work.flops == 2 * 8**3
    assert work.bytes == 16 * 8 * 2 + 2 * 8 * 8 * 2 + 4 * 8 * 2  # and the last reads the part that was sent


def test_collectives_of_a_program_on_eight_devices():
    mesh = Mesh(np.asarray(jax.devices()), ("d",))
    split = functools.partial(NamedSharding, mesh)
    x = jax.device_put(jnp.ones((16, 8)), split(PartitionSpec("d")))
    text = jax.jit(lambda x: x.sum(axis=0) @ jnp.ones((8, 4)), out_shardings=split(PartitionSpec())).lower(x).compile()
    work = hlo.read(text.as_text())
    assert work.collectives["all-reduce"] == pytest.approx(2 * 7 / 8 * 8 * 4, rel=1)
    assert sum(work.collectives.values()) > 0
