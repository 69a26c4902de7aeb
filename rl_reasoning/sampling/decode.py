"""The compiled programs of the decode engine: prompts into caches, and the loop that draws tokens.

A batch of slots draws one token each at every turn of one loop on the device. A prompt is prefilled once, but for its
last token, which every answer begins with: tokens are drawn in one place alone. Where all answers have slots and every
m that follow one another have one prompt, those slots share its keys and values, which every turn reads once; else they
are copied to the slots of its samples. When an answer ends, the next waiting sample takes its slot within the loop,
without a word to the host. When none waits, and few answers are still in work, they move to fewer slots.

Every slot has a ring of T places for its answer, and room for a prompt before it unless it shares one. All slots write
to the same place of the ring at the same turn, whenever their answers began, so that the cache is updated by one slice
and never by a scatter. An answer has at most T tokens, the last of which is not looked back at, so the ring never
overwrites what it still needs.

Shape letters: B slots, P prompts that they share, W prompts of a window, Q samples of a window, Lp prompt tokens, T
answer tokens, V vocabulary.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from rl_reasoning.arrays import Array
from rl_reasoning.models.cache import Cache, Shared, empty_cache, one_block, with_room
from rl_reasoning.models.decoder import FEW_LOGITS, DecoderConfig, Parameters, extend, logits
from rl_reasoning.models.rotary import Rotation, rotations
from rl_reasoning.parallel import constrain, parts
from rl_reasoning.parallel.rules import BATCH, TENSOR
from rl_reasoning.sampling.draw import Draw, Rules, draw_token
from rl_reasoning.types import StopReason

RUNNING = -1
PIECE = 64  # positions of a prompt that are prefilled at a time
AT_ONCE = 512  # tokens of all prompts that are: enough for full speed, and little memory
SCORES = 2**22  # pairs of positions that one head may compare at a time


class Waiting(NamedTuple):
    """Samples of a window, in the order in which they get slots; the first `count` of Q are real.

    prompt: [Q] which prompt of the window. limits: [Q] most tokens. count: scalar.
    """

    prompt: Array
    limits: Array
    count: Array  # type: ignore[assignment]  # hides a tuple's own count, which nothing calls


class Window(NamedTuple):
    """Prefilled prompts with the samples that wait for slots.

    caches: one a layer, of W prompts with Lp places, from `prefill`. last: [W] each prompt's last token. lengths: [W].
    waiting: see there.
    """

    caches: list[Cache]
    last: Array
    lengths: Array
    waiting: Waiting


class Slots(NamedTuple):
    """What every slot holds.

    turn: scalar, turns of the loop so far; the ring's place for this turn is turn % T. caches: one a layer, of B rows,
    whose last T places are the ring. prompts: one a layer, of P rows that B / P slots each share; none where each slot
    has its prompt in the first places of its own cache. last: [B] newest token. before: [B] how many tokens of the
    prompt are in its cache. count: [B] tokens so far. limit: [B] most tokens. born: [B] turn that draws the first
    token; token i is at place (born + i) % T of ids and logprobs [B, T], and in the ring the token that it follows.
    uniforms: [B, T] in [0, 1), column i is what token i is drawn with. reason: [B] int8, `RUNNING` or a `StopReason`.
    """

    turn: jax.Array
    caches: list[Cache]
    prompts: list[Cache]
    last: jax.Array
    before: jax.Array
    count: jax.Array  # type: ignore[assignment]  # hides a tuple's own count, which nothing calls
    limit: jax.Array
    born: jax.Array
    ids: jax.Array
    logprobs: jax.Array
    uniforms: jax.Array
    reason: jax.Array


class Retired(NamedTuple):
    """Answers whose slots were given to others, in the order in which that happened; the first `count` of Q.

    slot: [Q] which slot. born, length, reason: [Q]. ids, logprobs: [Q, T], as they lay in the ring.
    """

    count: jax.Array  # type: ignore[assignment]  # hides a tuple's own count, which nothing calls
    slot: jax.Array
    born: jax.Array
    length: jax.Array
    reason: jax.Array
    ids: jax.Array
    logprobs: jax.Array


def rows_at_once(prompt_tokens: int) -> int:
    """Prompts that are prefilled together; a window of more has a multiple of it."""
    piece = min(prompt_tokens, PIECE)
    return max(1, min(AT_ONCE // piece, SCORES // (piece * prompt_tokens)))


@functools.partial(jax.jit, static_argnames="config")
def prefill(config: DecoderConfig, parameters: Parameters, ids: jax.Array, lengths: jax.Array) -> list[Cache]:
    """Keys and values of all tokens but the last of W prompts [W, Lp]; what lies beyond is finite, and not to be seen.

    Args: parameters: from `decoder.unstack_layers`. lengths: [W], each at least 1.
    """
    rows, size = ids.shape
    group = min(rows, rows_at_once(size))
    one_group = functools.partial(_prefill_rows, config, parameters)
    if rows == group:
        return one_group((ids, lengths))
    parts = jax.lax.map(one_group, (ids.reshape(-1, group, size), lengths.reshape(-1, group)))
    return jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), parts)


def _prefill_rows(config: DecoderConfig, parameters: Parameters, prompts: tuple[jax.Array, jax.Array]) -> list[Cache]:
    """Caches of some prompts, which come in pieces, as many as the longest needs: what lies beyond costs nothing."""
    ids, lengths = prompts
    rows, size = ids.shape
    piece = min(size, PIECE)
    slots, turns = jnp.arange(size + -size % piece), rotations(config, size + -size % piece)
    # What lies beyond a prompt must not matter, even where its embedding is not a number.
    ids = jnp.where(jnp.arange(size) < lengths[:, None] - 1, ids, ids[:, :1])
    ids = jnp.pad(ids, ((0, 0), (0, -size % piece)), mode="edge")

    def one_piece(number: jax.Array | int, caches: list[Cache]) -> list[Cache]:
        start = jnp.int32(number * piece)
        positions = jnp.broadcast_to(start + jnp.arange(piece), (rows, piece))
        tokens = jax.lax.dynamic_slice_in_dim(ids, start, piece, axis=1)
        return extend(config, parameters, tokens, turns(positions), positions[:, :, None] - slots, caches, start)[1]

    caches = empty_cache(config, rows, slots.size)
    if slots.size == piece:
        return one_piece(0, caches)
    caches = jax.lax.fori_loop(0, (lengths.max() - 1 + piece - 1) // piece, one_piece, caches)
    return [Cache(cache.keys[..., :size], cache.values[..., :size, :]) for cache in caches]


@functools.partial(jax.jit, static_argnames=("config", "share"))
def fill(config: DecoderConfig, window: Window, uniforms: Array, share: int = 1) -> Slots:
    """One slot for each of the window's Q samples, whose numbers are [Q, T]; what is beyond the count is ended.

    share: how many samples that follow one another have a prompt in common, from the first on.
    """
    waiting, (size, tokens) = window.waiting, uniforms.shape
    prompt = waiting.prompt.reshape(-1, share)[:, 0]
    caches = [Cache(*(x[prompt] for x in cache)) for cache in window.caches]
    prompts = [with_room(config, cache, 0) for cache in caches] if share > 1 else []
    caches = [with_room(config, cache, tokens) for cache in caches] if share == 1 else [
        with_room(config, cache, tokens) for cache in empty_cache(config, size, 0)]
    reason = jnp.where(jnp.arange(size) < waiting.count, RUNNING, StopReason.CANCELLED).astype(jnp.int8)
    zero, empty = jnp.zeros(size, jnp.int32), jnp.zeros((size, tokens))
    return _split(Slots(
        jnp.int32(0), caches, prompts, jnp.asarray(window.last)[waiting.prompt],
        jnp.asarray(window.lengths)[waiting.prompt] - 1, zero, jnp.asarray(waiting.limits), zero,
        empty.astype(jnp.int32), empty, jnp.asarray(uniforms), reason))


def _split(slots: Slots) -> Slots:
    """On several devices each has its own slots; heads stay where the weights put them."""
    return jax.tree.map(lambda x: constrain(x, BATCH, *[PartitionSpec.UNCONSTRAINED] * (x.ndim - 1)) if x.ndim else x,
                        slots)


@functools.partial(jax.jit, static_argnames="config", donate_argnames="slots")
def decode(config: DecoderConfig, parameters: Parameters, slots: Slots, rules: Rules, turns: jax.Array,
           few: jax.Array) -> Slots:
    """Draws tokens until no device has more than `few` answers in work, or for so many turns."""
    last, one_turn = slots.turn + turns, _one_turn(config, parameters, rules, slots)
    return jax.lax.while_loop(lambda s: (s.turn < last) & _busy(s, few), one_turn, slots)


def _busy(slots: Slots, few: jax.Array) -> jax.Array:
    """Whether any device has more than so many answers in work."""
    return ((slots.reason == RUNNING).reshape(parts(BATCH), -1).sum(axis=1) > few).any()


@functools.partial(jax.jit, static_argnames="config")
def narrow(config: DecoderConfig, slots: Slots, chosen: jax.Array) -> Slots:
    """Some of the slots, each with a prompt of its own. chosen: [S, n] which of its own each of S devices keeps."""
    def some(x: jax.Array, which: jax.Array = chosen) -> jax.Array:
        if not x.ndim:
            return x
        own = x.reshape(len(which), -1, *x.shape[1:])
        return jax.vmap(lambda rows, which: rows[which])(own, which).reshape(-1, *x.shape[1:])

    kept = jax.tree.map(some, slots._replace(prompts=[]))
    if slots.prompts:
        share = slots.last.size // len(slots.prompts[0].keys)
        prompts = jax.tree.map(lambda x: some(x, chosen // share), slots.prompts)
        kept = kept._replace(caches=[with_room(config, one_block(prompt), slots.ids.shape[1], own)
                                     for prompt, own in zip(prompts, kept.caches, strict=True)])
    return _split(kept)


@functools.partial(jax.jit, static_argnames="config", donate_argnames="slots")
def decode_and_refill(config: DecoderConfig, parameters: Parameters, slots: Slots, window: Window,
                      uniforms: Array, placed: jax.Array, rules: Rules, turns: jax.Array, few: jax.Array,
                      more: jax.Array) -> tuple[Slots, Retired]:
    """The same, and slots whose answers have ended go to the window's waiting samples, as long as any wait.

    Args:
      uniforms: [Q, T], of the window's samples. placed: scalar, how many of the window's samples have slots already.
      more: scalar bool, the host has further windows: return once a slot is free and nothing waits in this one.
    """
    last, tokens, size = slots.turn + turns, slots.ids.shape[1], window.waiting.prompt.size
    one_turn = _one_turn(config, parameters, rules, slots)
    zero = jnp.zeros(size, jnp.int32)
    retired = Retired(jnp.int32(0), zero, zero, zero, jnp.zeros(size, jnp.int8), jnp.zeros((size, tokens), jnp.int32),
                      jnp.zeros((size, tokens), jnp.float32))

    def free_and_waiting(state: tuple[Slots, Retired]) -> jax.Array:
        return (state[0].reason != RUNNING).any() & (placed + state[1].count < window.waiting.count)

    def body(state: tuple[Slots, Retired]) -> tuple[Slots, Retired]:
        slots, retired = jax.lax.while_loop(
            free_and_waiting, lambda state: _place(config, *state, window, uniforms, placed), state)
        return one_turn(slots), retired

    def go_on(state: tuple[Slots, Retired]) -> jax.Array:
        slots, retired = state
        waits, all_at_work = placed + retired.count < window.waiting.count, (slots.reason == RUNNING).all()
        return (slots.turn < last) & (waits | jnp.where(more, all_at_work, _busy(slots, few)))

    return jax.lax.while_loop(go_on, body, (slots, retired))


@functools.partial(jax.jit, donate_argnames="slots")
def end(slots: Slots, which: jax.Array, reason: jax.Array) -> Slots:
    """Ends the running answers of some slots [B] bool with a `StopReason`."""
    stopped = which & (slots.reason == RUNNING)
    return slots._replace(reason=jnp.where(stopped, reason, slots.reason).astype(jnp.int8))


def _one_turn(config: DecoderConfig, parameters: Parameters, rules: Rules, slots: Slots) -> Callable[[Slots], Slots]:
    """What draws one token for every slot, with what is the same at every turn."""
    turns = rotations(config, sum(caches[0].places for caches in (slots.caches, slots.prompts) if caches))
    return functools.partial(_turn, config, parameters, rules, turns)


def _turn(config: DecoderConfig, parameters: Parameters, rules: Rules, turns: Callable[[Array], Rotation],
          slots: Slots) -> Slots:
    """One token for every slot; those that have ended stay as they are."""
    tokens, running = slots.ids.shape[1], slots.reason == RUNNING
    room = slots.caches[0].places - tokens
    place = slots.turn % tokens
    positions, shared = slots.before + slots.count, None
    if slots.prompts:
        shared = Shared(slots.prompts, slots.before.reshape(len(slots.prompts[0].keys), -1)[:, 0])
    hidden, caches = extend(config, parameters, slots.last[:, None], turns(positions[:, None]),
                            _distance(slots, positions, room)[:, None], slots.caches, room + place, shared)
    uniforms = jnp.take_along_axis(slots.uniforms, slots.count[:, None], axis=1, mode="clip")[:, 0]
    if config.for_cpu and running.size <= FEW_LOGITS:  # the head is the left operand, as in `decoder.unstack_layers`
        drawn = draw_token(logits(config, parameters, hidden[:, 0], turned=True), uniforms, slots.count, rules, axis=0)
    else:  # In two steps: asked for whole rows at once, a compiler gathers the head instead of the logits.
        raw = constrain(constrain(logits(config, parameters, hidden[:, 0]), BATCH, TENSOR), BATCH)
        drawn = draw_token(raw, uniforms, slots.count, rules)
    count, reason = _after(drawn, slots.count, slots.limit, rules)
    return _split(slots._replace(
        turn=slots.turn + 1, caches=caches, last=drawn.ids, count=jnp.where(running, count, slots.count),
        ids=_put(slots.ids, drawn.ids, running, place),
        logprobs=_put(slots.logprobs, drawn.logprobs, running, place),
        reason=jnp.where(running, reason, slots.reason)))


def _after(drawn: Draw, count: jax.Array, limit: Array, rules: Rules) -> tuple[jax.Array, jax.Array]:
    """Tokens of each answer with the one that was drawn, and whether that ended it. No token comes of NaN."""
    stopped = (drawn.ids[:, None] == rules.stops).any(axis=-1)
    reason = jnp.where(count + 1 >= limit, StopReason.LENGTH, RUNNING)
    reason = jnp.where(drawn.finite, jnp.where(stopped, StopReason.EOS, reason), StopReason.NAN)
    return count + drawn.finite, reason.astype(jnp.int8)


def _distance(slots: Slots, positions: jax.Array, room: int) -> jax.Array:
    """[B, S]: how many positions each place lies behind the newest token, negative where nothing is seen.

    room: places before the ring.
    """
    tokens, prompt = slots.ids.shape[1], jnp.arange(room)
    age = (slots.turn - jnp.arange(tokens)) % tokens
    seen = jnp.zeros_like(slots.before) if slots.prompts else slots.before
    return jnp.concatenate([jnp.where(prompt < seen[:, None], positions[:, None] - prompt, -1),
                            jnp.where(age <= slots.count[:, None], age, -1)], axis=1)


def _put(table: jax.Array, column: jax.Array, rows: jax.Array, place: jax.Array) -> jax.Array:
    """[B, T] with a column [B] at a place, in some of the rows."""
    old = jax.lax.dynamic_slice_in_dim(table, place, 1, axis=1)
    return jax.lax.dynamic_update_slice_in_dim(table, jnp.where(rows[:, None], column[:, None], old), place, axis=1)


def _place(config: DecoderConfig, slots: Slots, retired: Retired, window: Window, uniforms: Array,
           placed: jax.Array) -> tuple[Slots, Retired]:
    """Gives the first free slot to the next waiting sample, and keeps the answer that it held.

    All of the slot's cache is written: a value that is not a number stays one when it is weighed by 0, so it must not
    outlive its answer.
    """
    slot, sample = jnp.argmax(slots.reason != RUNNING), placed + retired.count
    retired = Retired(retired.count + 1, *(table.at[retired.count].set(value) for table, value in zip(retired[1:], (
        slot, slots.born[slot], slots.count[slot], slots.reason[slot], slots.ids[slot], slots.logprobs[slot]),
        strict=True)))
    prompt, caches = window.waiting.prompt[sample], []
    for mine, theirs in zip(slots.caches, window.caches, strict=True):
        row = with_room(config, Cache(*(jax.lax.dynamic_slice_in_dim(x, prompt, 1) for x in theirs)),
                        slots.ids.shape[1])
        caches.append(Cache(*(jax.lax.dynamic_update_slice_in_dim(x, new, slot, axis=0)
                              for x, new in zip(mine, row, strict=True))))
    values = {"last": window.last[prompt], "before": window.lengths[prompt] - 1, "count": 0, "born": slots.turn,
              "limit": window.waiting.limits[sample], "uniforms": uniforms[sample], "reason": RUNNING}
    return slots._replace(caches=caches, **{name: getattr(slots, name).at[slot].set(value)
                                            for name, value in values.items()}), retired
