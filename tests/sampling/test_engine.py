"""The decode engine: its log-probabilities, that an answer depends on its own key alone, how answers end."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning import keys
from rl_reasoning.config import Sampling
from rl_reasoning.models.architecture import LoRA, RopeScaling
from rl_reasoning.models.decoder import DecoderConfig, initialize
from rl_reasoning.models.lora import prepare
from rl_reasoning.sampling import decode
from rl_reasoning.sampling.engine import Buckets, JaxEngine
from rl_reasoning.types import Prompts, StopReason
from tests.sampling.replay import teacher_forced

CONFIG = DecoderConfig(vocabulary=19, layers=2, width=16, heads=4, kv_heads=2, head_dim=6, mlp=24)
UNTIED = dataclasses.replace(CONFIG, tied=False)
PARAMETERS = initialize(CONFIG, jax.random.key(0))
EOS = 4
PROMPTS = Prompts(np.array([[3, 1, 2, 9], [7, EOS, 0, 0], [5, 0, 0, 0]], np.int32), np.array([4, 2, 1], np.int32))
NUMBERS = [11, 22, 33]
FULL = Sampling(max_tokens=7, slots=4)


class Letters:
    """A tokenizer whose tokens are letters."""

    vocabulary_size, eos_id = 19, EOS

    def encode(self, text):
        return [ord(letter) - ord("a") for letter in text]

    def decode(self, ids):
        return "".join(chr(ord("a") + token) for token in ids)


# One shape for most tests, with fewer slots than answers; EXACT compiles the shape of each request.
BUCKETS = Buckets(slots=(4,), prompts=(4,), prompt_tokens=(4,), answer_tokens=(7,))
ENGINE, EXACT = JaxEngine(CONFIG, EOS, Letters(), buckets=BUCKETS), JaxEngine(CONFIG, EOS, Letters())


LIMITS = [1, 2, 1, 7, 2, 1, 3, 2, 1, 1, 2, 7, 3, 1]


class Spy:
    """A compiled program that says what it is called with."""

    def __init__(self, program, called):
        self.program, self.called, self._cache_size = program, called, program._cache_size

    def __call__(self, *arguments):
        self.called(*arguments)
        return self.program(*arguments)


def run(settings=FULL, prompts=PROMPTS, numbers=NUMBERS, counts=(4, 4, 4), step=1, parameters=PARAMETERS, engine=ENGINE,
        **options):
    key = keys.derive(0, keys.Role.ROLLOUT, step)
    return engine.generate(parameters, prompts, counts, settings, key, numbers=numbers, **options)


def assert_equal(one, other):
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.lengths, other.lengths)
    np.testing.assert_array_equal(one.stop_reasons, other.stop_reasons)
    # Other shapes have other products, whose sums round differently in float32.
    np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-6, rtol=1e-6)


MIXED = Sampling(top_p=0.7, logprobs="policy", min_tokens=3, forbidden_tokens=("3", "9"), stop_tokens=("7",))
SETTINGS = [
    Sampling(), Sampling(temperature=0.6), Sampling(top_k=5), Sampling(temperature=0.6, top_p=0.9),
    Sampling(temperature=1.5, top_k=12, top_p=0.9, min_p=0.1), MIXED,
    pytest.param(Sampling(temperature=0), marks=pytest.mark.slow),
    pytest.param(dataclasses.replace(MIXED, logprobs="sampled"), marks=pytest.mark.slow)]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_log_probabilities_equal_teacher_forced_ones(settings):
    """T26: ragged prompts, a prompt that holds the end token, early ends, slots refilled; on the declared support."""
    settings = dataclasses.replace(settings, max_tokens=7, slots=4)
    counts = [8, 8, 8] if settings.temperature else [1, 1, 1]
    out = run(settings, counts=counts)
    if settings.temperature:
        assert {StopReason.EOS, StopReason.LENGTH} == set(out.stop_reasons.tolist())
    forced = teacher_forced(CONFIG, PARAMETERS, PROMPTS, counts, out, settings, EOS)
    np.testing.assert_allclose(out.logprobs, forced, atol=1e-5)


FAMILIES = {
    "llama": {"rope_scaling": RopeScaling("llama3", 4.0, original=8), "tied": False},
    "qwen2": {"qkv_bias": True, "windows": (0, 3)},
    "qwen3": {"qk_norm": True},
    "peri": {"norms": "peri"},
    "lora": {"lora": LoRA(2, 8.0)},
}
EVERYTHING = {name: value for family in FAMILIES.values() for name, value in family.items()}


@pytest.mark.parametrize("family", ["all", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES)])
def test_log_probabilities_of_every_family(family):
    """T26, with the parts of Llama, Qwen2 and Qwen3, norms on both sides, a window, adapters."""
    config = dataclasses.replace(CONFIG, **(EVERYTHING if family == "all" else FAMILIES[family]))
    plain = jax.tree.map(lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape),
                         initialize(config.plain(), jax.random.key(3)))
    parameters = jax.tree.map(lambda x: x + 0.05, prepare(config, plain, jax.random.key(4)))
    out = run(counts=[8, 8, 8], parameters=parameters, engine=JaxEngine(config, EOS, buckets=BUCKETS))
    np.testing.assert_allclose(
        out.logprobs, teacher_forced(config, parameters, PROMPTS, [8, 8, 8], out, FULL, EOS), atol=1e-5)


@pytest.mark.parametrize("slots", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 3, 5))])
def test_refilled_slots_give_the_same_answers(slots):
    """T28: as many slots as answers, or few, so that answers of other prompts and lengths follow one another in one."""
    assert_equal(run(dataclasses.replace(FULL, slots=slots), counts=(7, 2, 5), engine=EXACT), run(counts=(7, 2, 5)))


@pytest.mark.parametrize(("slots", "sizes"), [(0, [3]), (8, [2])])
def test_the_last_answers_move_to_fewer_slots_and_stay_the_same(monkeypatch, slots, sizes):
    """T28: once a quarter of the slots holds all that is in work; all at once, or with others waiting for slots."""
    monkeypatch.setattr("rl_reasoning.sampling.engine.LEAST", 2)
    monkeypatch.setattr("rl_reasoning.sampling.engine.WORTH", 0)
    moved, engine = [], JaxEngine(CONFIG, EOS, Letters())
    narrow = decode.narrow
    monkeypatch.setattr(decode, "narrow", Spy(narrow, lambda config, _, chosen: moved.append(chosen.size)))
    settings = Sampling(max_tokens=7, slots=slots)
    out = run(settings, counts=(7, 2, 5), limits=LIMITS, engine=engine)
    assert moved == sizes
    assert_equal(out, run(counts=(7, 2, 5), limits=LIMITS))
    counts = engine.counts()
    assert counts["engine/tokens"] < counts["engine/rows"]
    assert counts["engine/rows"] < 14 * 7


def test_fewer_slots_are_not_compiled_for_little():
    def sizes(slots, tokens):
        return EXACT._narrower(slots, tokens)

    assert sizes(512, 4_096) == (128, 32, 8)
    assert sizes(512, 24) == (128, 32)
    assert sizes(32, 24) == sizes(31, 4_096) == ()


def test_declared_slots_are_what_the_last_answers_move_to():
    engine = JaxEngine(CONFIG, EOS, buckets=Buckets(slots=(2, 5, 14)))
    assert_equal(run(Sampling(max_tokens=7), counts=(7, 2, 5), limits=LIMITS, engine=engine),
                 run(counts=(7, 2, 5), limits=LIMITS))
    assert engine.counts()["engine/rows"] < 14 * 6


def test_an_answer_depends_on_its_problem_and_number_alone():
    """T28: other order, fewer problems, other sample counts: the same tokens."""
    whole = run()
    turned = run(prompts=Prompts(*(x[::-1] for x in PROMPTS)), numbers=NUMBERS[::-1])
    np.testing.assert_array_equal(turned.ids.reshape(3, 4, -1)[::-1].reshape(12, -1), whole.ids)
    alone = run(prompts=Prompts(*(x[1:2] for x in PROMPTS)), numbers=NUMBERS[1:2], counts=[4])
    np.testing.assert_array_equal(alone.ids, whole.ids[4:8])
    np.testing.assert_array_equal(run(counts=(2, 0, 1)).ids, whole.ids[[0, 1, 8]])
    np.testing.assert_array_equal(run(counts=(2, 2, 2), first=2).ids, whole.ids[[2, 3, 6, 7, 10, 11]])


def test_noise_changes_with_step_problem_and_sample_and_with_nothing_else():
    """T27: no noise is replayed."""
    same = Prompts(np.tile(PROMPTS.ids[:1], (2, 1)), np.tile(PROMPTS.lengths[:1], 2))
    out = run(prompts=same, numbers=NUMBERS[:2], counts=[6, 6])
    again = run(prompts=same, numbers=NUMBERS[:2], counts=[6, 6])
    later = run(prompts=same, numbers=NUMBERS[:2], counts=[6, 6], step=2)
    assert_equal(out, again)
    assert (out.ids[:6] != out.ids[6:]).any()
    assert (out.ids != later.ids).any()
    assert len({tuple(row) for row in out.ids[:6]}) > 1


def test_lengths_stop_reasons_and_what_lies_beyond():
    """T30: the end token counts, nothing after it does, and only answers that hold it say EOS; limits of their own."""
    limits = [1 + number % 7 for number in range(12)]
    out = run(limits=limits)
    for ids, logp, length, reason, limit in zip(*out, limits, strict=True):
        assert EOS not in ids[:length - 1]
        assert (ids[length - 1] == EOS) == (reason == StopReason.EOS)
        assert reason == StopReason.EOS or length == limit
        assert (ids[length:] == EOS).all()
        assert (logp[length:] == 0).all()
        assert (logp[:length] < 0).all()
    free = run()
    beyond = np.arange(7) >= np.minimum(free.lengths, limits)[:, None]
    np.testing.assert_array_equal(out.ids, np.where(beyond, EOS, free.ids))


@pytest.mark.parametrize("sign", [1, -1])
def test_end_at_once_and_never(sign):
    """T30: a policy that always ends gives one-token answers; one that never does is cut at the limit. With refill."""
    parameters = initialize(UNTIED, jax.random.key(0))
    parameters["final_norm"] = {"scale": jnp.full(CONFIG.width, 1e-3)}
    # A constant direction in every hidden state makes the head's column of the end token decide.
    parameters["embed"] = {"embedding": parameters["embed"]["embedding"].at[:, 0].set(100.0)}
    parameters["head"] = {"kernel": jnp.zeros((CONFIG.width, CONFIG.vocabulary)).at[0, EOS].set(sign * 1e6)}
    out = run(parameters=parameters, engine=JaxEngine(UNTIED, EOS, buckets=BUCKETS))
    assert set(out.lengths) == ({1} if sign > 0 else {7})
    assert set(out.stop_reasons) == {StopReason.EOS if sign > 0 else StopReason.LENGTH}


def test_stop_strings_end_an_answer_where_its_text_first_holds_one():
    """The tokens up to there are those of the run without it, whenever the host looked."""
    free = run(counts=(6, 6, 6))
    texts = ["".join(Letters().decode(ids[:length])) for ids, length in zip(free.ids, free.lengths, strict=True)]
    stop = next(text[2:4] for text in texts if len(text) > 5)
    for exchange in (1, 3, 100):
        parts = list(ENGINE.stream(PARAMETERS, PROMPTS, (6, 6, 6), dataclasses.replace(FULL, stop=("?", stop)),
                                   keys.derive(0, keys.Role.ROLLOUT, 1), numbers=NUMBERS, exchange=exchange))
        assert sorted(np.concatenate([part.which for part in parts]).tolist()) == list(range(18))
        for which, answers in parts:
            rows = zip(which, answers.ids, answers.lengths, answers.stop_reasons, strict=True)
            for sample, ids, length, reason in rows:
                at = texts[sample].find(stop)
                assert length == (free.lengths[sample] if at < 0 else at + 2)
                assert (reason == StopReason.STOP_STRING) == (at >= 0)
                np.testing.assert_array_equal(ids[:length], free.ids[sample, :length])


def test_minimum_length_forbidden_stop_and_first_tokens():
    settings = dataclasses.replace(MIXED, max_tokens=7, slots=4, min_tokens=4, begin_with="bc")
    out = run(settings, counts=(8, 8, 8))
    assert out.lengths.min() >= 4
    assert not np.isin(out.ids, [3, 9]).any()
    assert (out.ids[:, :2] == [1, 2]).all()
    last = out.ids[np.arange(24), out.lengths - 1]
    assert {EOS, 7} == set(last[out.stop_reasons == StopReason.EOS].tolist())
    assert not np.isin(last[out.stop_reasons == StopReason.LENGTH], [EOS, 7]).any()
    drawn = dataclasses.replace(settings, begin_with="")
    plain = teacher_forced(CONFIG, PARAMETERS, PROMPTS, [8, 8, 8], out, drawn, EOS)
    np.testing.assert_allclose(out.logprobs, plain, atol=1e-5)


def test_logits_that_are_not_numbers_end_their_answer_and_are_counted():
    """A token whose embedding is NaN: answers that come to it end there; the others are what they were."""
    table = PARAMETERS["embed"]["embedding"]
    sick, well = ({**PARAMETERS, "head": {"kernel": table.T}, "embed": {"embedding": embedding}}
                  for embedding in (table.at[6].set(jnp.nan), table))
    engine = JaxEngine(UNTIED, EOS, buckets=BUCKETS)
    out, whole = (run(counts=(5, 5, 5), parameters=parameters, engine=engine) for parameters in (sick, well))
    met = [6 in ids[:length - (reason == StopReason.LENGTH)] for ids, length, reason in
           zip(whole.ids, whole.lengths, whole.stop_reasons, strict=True)]
    assert 0 < sum(met) < 15
    np.testing.assert_array_equal(out.stop_reasons == StopReason.NAN, met)
    assert engine.counts()["engine/nan"] == sum(met)
    np.testing.assert_array_equal(out.ids[~np.array(met)], whole.ids[~np.array(met)])
    for ids, length, before in zip(out.ids[met], out.lengths[met], whole.ids[met], strict=True):
        np.testing.assert_array_equal(ids[:length], before[:length])
        assert ids[length - 1] == 6
    prompts = Prompts(np.array([[6, 1]], np.int32), np.array([2], np.int32))
    assert run(prompts=prompts, numbers=[1], counts=[2], parameters=sick, engine=engine).lengths.tolist() == [0, 0]


@pytest.mark.parametrize("yes_at", [0, 1])
def test_cancelled_answers_say_so_and_keep_what_they_have(yes_at):
    free, asked = run(), iter([False] * yes_at)
    out = run(cancel=lambda: next(asked, True))
    cut = out.stop_reasons == StopReason.CANCELLED
    assert cut.any()
    assert (out.lengths[cut] < free.lengths[cut]).all()
    assert (out.lengths[-4:] == 0).all()
    beyond = np.arange(7) >= out.lengths[:, None]
    np.testing.assert_array_equal(out.ids, np.where(beyond, EOS, free.ids))
    np.testing.assert_array_equal(out.stop_reasons[~cut], free.stop_reasons[~cut])


@pytest.mark.parametrize(("change", "named"), [
    ({"prompts": Prompts(PROMPTS.ids, np.array([4, 0, 1]))}, "prompt 1 has 0 tokens"),
    ({"prompts": Prompts(PROMPTS.ids, np.array([4, 2, 5]))}, "prompt 2 has 5 tokens"),
    ({"counts": (1, -1, 2)}, "counts"), ({"counts": (1, 2)}, "counts"),
    ({"limits": [8] * 12}, "max_tokens=7"), ({"limits": [1] * 11}, "12 numbers"),
    ({"settings": Sampling(max_tokens=7, stop_tokens=("19",))}, "stop_tokens='19'.*0 to 18"),
    ({"settings": Sampling(max_tokens=7, stop_tokens=("end",))}, "stop_tokens='end'"),
    ({"settings": Sampling(max_tokens=7, forbidden_tokens=tuple(map(str, range(19))))}, "nothing to draw"),
    ({"settings": Sampling(max_tokens=3, min_tokens=4)}, "min_tokens=4"),
    ({"settings": Sampling(max_tokens=2, begin_with="abc")}, "begin_with='abc' has 3 tokens"),
    ({"settings": Sampling(max_tokens=7, stop=("",))}, "must have a character"),
    ({"settings": Sampling(max_tokens=7, stop=("a",)), "engine": JaxEngine(CONFIG, EOS)}, "no tokenizer"),
    ({"engine": JaxEngine(CONFIG, EOS, buckets=Buckets(prompt_tokens=(2, 3)))}, "4 prompt tokens: the largest"),
    ({"engine": JaxEngine(CONFIG, EOS, memory=2_000)}, "slots=4 with 4 . 7 tokens .* fewer slots"),
])
def test_what_cannot_be_served_is_refused(change, named):
    """T30: nothing is cut off, and the message names the value."""
    with pytest.raises(ValueError, match=named):
        run(**change)


def test_temperature_zero_with_several_samples_is_served_with_a_warning():
    with pytest.warns(UserWarning, match="same answer"):
        out = run(dataclasses.replace(FULL, temperature=0.0), counts=(2, 2, 2))
    np.testing.assert_array_equal(out.ids[::2], out.ids[1::2])


def test_no_answers_at_all():
    assert run(counts=(0, 0, 0)).ids.shape == (0, 7)


def test_compilations_stay_within_the_declared_buckets():
    """T31: 200 workloads of random sizes, lengths, settings and parameters."""
    engine, rng = JaxEngine(CONFIG, EOS, Letters(), buckets=BUCKETS), np.random.default_rng(0)
    programs = (decode.prefill, decode.fill, decode.decode, decode.decode_and_refill)
    before = sum(program._cache_size() for program in programs)
    for step in range(200):
        size = int(rng.integers(1, 4))
        width = int(rng.integers(1, 5))
        prompts = Prompts(rng.integers(0, 19, (size, width)).astype(np.int32),
                          rng.integers(1, width + 1, size).astype(np.int32))
        settings = Sampling(temperature=float(rng.choice([0.6, 1.0])), max_tokens=int(rng.integers(1, 8)), slots=4)
        run(settings, prompts, counts=rng.integers(0, 6, size), numbers=None, step=step, engine=engine)
    grown = sum(program._cache_size() for program in programs) - before
    assert engine.counts()["engine/compilations"] == grown
    assert grown <= len(programs)


def test_long_prompts_come_in_pieces_and_groups(monkeypatch):
    """Pieces of 3 tokens, groups of 2 prompts: the answers and log-probabilities of one piece."""
    rng = np.random.default_rng(1)
    lengths = np.array([8, 1, 5, 3], np.int32)
    prompts = Prompts(rng.integers(0, 19, (4, 8)).astype(np.int32), lengths)
    settings = Sampling(max_tokens=3)
    whole = run(settings, prompts, numbers=None, counts=[2] * 4, engine=EXACT)
    monkeypatch.setattr(decode, "PIECE", 3)
    monkeypatch.setattr(decode, "AT_ONCE", 6)
    engine = JaxEngine(CONFIG, EOS, buckets=Buckets(slots=(9,)))  # another shape, so that it is compiled anew
    assert_equal(run(settings, prompts, numbers=None, counts=[2] * 4, engine=engine), whole)
    np.testing.assert_allclose(
        whole.logprobs, teacher_forced(CONFIG, PARAMETERS, prompts, [2] * 4, whole, settings, EOS), atol=1e-5)
