"""A run on a Hugging Face folder that the test writes: read, trained by adapters, exported, read again."""

import dataclasses
import importlib.util
import json
import pathlib
import shutil
import sys
import types

import jax
import numpy as np
import pytest

from rl_reasoning import edge
from rl_reasoning.config import Experiment
from rl_reasoning.edge import ConfigError
from rl_reasoning.loop import run_experiment
from rl_reasoning.loop.describe import describe_model
from rl_reasoning.loop.restore import restore
from rl_reasoning.loop.setup import build
from rl_reasoning.models import hf, hf_config, lora
from tests.models import hf_cases
from tests.models.passes import forward
from tests.tokenizers import folder_fixture

ROOT = pathlib.Path(__file__).parents[2]
SIZES = {"vocab_size": 512, "max_position_embeddings": 2048, "num_hidden_layers": 1, "torch_dtype": "bfloat16"}


@pytest.fixture(name="folder", scope="module")
def model_folder(tmp_path_factory):
    """A folder of Qwen2's family, in bfloat16 and two shards, with spare rows behind the vocabulary."""
    folder = folder_fixture.write(tmp_path_factory.mktemp("model"))
    return hf_cases.write(folder, {**hf_cases.CASES["qwen2"], **SIZES}, shards=2, dtype="bfloat16")


def smoke(folder, *changes):
    config = ROOT / "experiments" / "configs" / "hf.py"
    return edge.read_command(["run.py", f"--config={config}:smoke", f"--config.model.source={folder}", *changes], "")


def export_script():
    spec = importlib.util.spec_from_file_location("export", ROOT / "scripts" / "export.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("held", ["float32", "int8"])
def test_a_folders_weights_go_straight_to_their_devices(tmp_path, folder, held):
    lab = build(smoke(folder, f"--config.workdir={tmp_path}", "--config.mesh.fsdp=2", "--config.mesh.tensor=2",
                      f"--config.model.precision.parameters={held}"))
    placed = lab.first()
    jax.tree.map(lambda leaf, sharding: np.testing.assert_equal(leaf.sharding, sharding), placed,
                 lab.layout.parameters(placed))
    assert len(placed["layers"]["mlp"]["up"]["kernel"].sharding.device_set) == 4
    jax.tree.map(np.testing.assert_array_equal, placed, hf.read_parameters(folder, lab.policy.config))


def test_a_folder_is_trained_and_comes_out_as_a_folder(tmp_path, folder, capsys):
    assert run_experiment(smoke(folder, f"--config.workdir={tmp_path}")) == 0
    said = capsys.readouterr().err
    assert "weights bfloat16, layers float32, head float32, logits float32, optimizer float32" in said
    assert "in adapters of rank 16" in said
    (run,) = tmp_path.glob("hf-smoke-*")
    (metrics,) = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert metrics["mismatch/max"] < 1e-4  # T26: sampler and trainer read the same adapters
    lab, parameters = restore(run)
    trained, frozen = lora.split(lab.policy.config, parameters)
    jax.tree.map(np.testing.assert_array_equal, frozen, hf.read_parameters(folder, lab.policy.config))
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(trained)) < sum(
        path.stat().st_size for path in (run / "checkpoints").rglob("*") if path.is_file()) < 10**6
    script = export_script()
    assert script.main([str(run), "--to=hf", str(tmp_path / "out")]) == 0
    config = hf_config.read_config(tmp_path / "out")
    exported, tokens = hf.read_parameters(tmp_path / "out", config), hf_cases.TOKENS
    np.testing.assert_allclose(forward(config, exported, tokens), forward(lab.policy.config, parameters, tokens),
                               atol=1e-5)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "float32"
    assert script.main([str(run), "--to=peft", str(tmp_path / "adapters")]) == 0
    assert {path.name for path in (tmp_path / "adapters").iterdir()} >= {
        "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}
    check_refusals(script, run, tmp_path, capsys)


def check_refusals(script, run, tmp_path, capsys):
    for arguments, message in (((str(run), "--to=hf", str(tmp_path / "out")), "is there already"),
                               ((str(run), "--to=hf", str(tmp_path / "b"), "--step=7"), "holds no step 7"),
                               ((str(tmp_path), "--to=hf", str(tmp_path / "b")), "config.json is not there")):
        assert script.main(list(arguments)) == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(("change", "message"), [
    ({"vocab_size": 100}, "the tokenizer has ids up to .*, and the model 100 rows"),
    ({"max_position_embeddings": 64}, "the model was made for 64"),
])
def test_a_model_that_does_not_fit_is_refused_before_its_weights_are_read(tmp_path, folder, change, message):
    copied = shutil.copytree(folder, tmp_path / "model")
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | change))
    for shard in copied.glob("*.safetensors"):
        shard.write_bytes(b"")
    with pytest.raises(ConfigError, match=message):
        build(smoke(copied))


def test_damaged_weights_are_one_message_for_the_person_who_started_the_run(tmp_path, folder):
    copied = shutil.copytree(folder, tmp_path / "model")
    lab = build(smoke(copied))
    shard = copied / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(ConfigError, match=r"model-00002-of-00002\.safetensors is cut off"):
        lab.first()


@pytest.mark.parametrize("prompt", ["template", "qwen_boxed", "r1"])
def test_the_settings_choose_how_turns_are_written(folder, prompt):
    lab = build(smoke(folder, f"--config.model.prompt={prompt}"))
    ids = lab.policy.tokenizer.encode_prompt(lab.train[0].prompt)
    text = lab.policy.tokenizer._pipeline.decode(ids, skip_special_tokens=False)
    marks = {"template": "You are helpful.", "qwen_boxed": "within \\boxed{}", "r1": "A conversation between"}
    assert [mark in text for mark in marks.values()] == [name == prompt for name in marks]


@pytest.mark.parametrize(("change", "message"), [
    ("--config.model.precision.parameters=int4", "must be one of float32, bfloat16, int8"),
    ("--config.model.lora.rank=-1", "must be a whole number, 0 or more"),
    ("--config.model.prompt=qwen_boxd", "did you mean qwen_boxed"),
])
def test_settings_that_cannot_be(folder, change, message):
    with pytest.raises(ConfigError, match=message):
        smoke(folder, change)


def test_int8_needs_adapters_and_targets_must_match(folder):
    with pytest.raises(ConfigError, match="cannot be trained; give adapters"):
        smoke(folder, "--config.model.precision.parameters=int8", "--config.model.lora.rank=0")
    with pytest.raises(ConfigError, match=r"'q_proj' matches none of attention\.query"):
        build(smoke(folder, "--config.model.lora.targets=q_proj"))


def test_a_hub_name_is_the_only_way_to_the_network(tmp_path, folder, monkeypatch):
    asked = []

    def snapshot_download(name, **options):
        asked.append((name, options["revision"]))
        return str(folder)

    monkeypatch.setitem(sys.modules, "huggingface_hub",
                        types.SimpleNamespace(snapshot_download=snapshot_download))
    with pytest.raises(ConfigError, match=r"is no file or folder.*to download it write hf:Qwen/Qwen2\.5-0\.5B"):
        build(smoke("Qwen/Qwen2.5-0.5B"))
    assert asked == []
    assert build(smoke("hf:Qwen/Qwen2.5-0.5B@abc")).policy.config.vocabulary == 512
    assert asked == [("Qwen/Qwen2.5-0.5B", "abc")]


def test_memory_that_training_holds_is_said(folder):
    config = build(smoke(folder)).policy.config
    policy, trained = describe_model(config, Experiment().rl.optimizer)
    assert policy.startswith("policy: 0.0")
    assert "adapters of rank 16" in trained
    alone = describe_model(dataclasses.replace(config, lora=None), Experiment().rl.optimizer)
    count = sum(np.prod(shape) for shape in hf.shapes(config).values())
    assert alone[1].endswith(f"hold {count * (2 + 2 + 8) / 1e3:.4g} kB")
