"""What a person typed is checked once: every mistake names its key, its value, and what to type instead."""

import copy
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_reasoning import edge
from rl_reasoning.config import RL, Experiment, Model


def nested(key, value):
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


# T61: key, value, and what the message must say besides them.
UNKNOWN = [
    ("algoritm", "nsr", "did you mean algorithm?"),
    ("rl.stpes", 3, "did you mean rl.steps?"),
    ("task.countdown.numbrs", 4, "did you mean task.countdown.numbers?"),
    ("rl.optimizer.learningrate", 1e-4, "did you mean rl.optimizer.learning_rate?"),
    ("learning_rate", 1e-4, "rl.optimizer.learning_rate"),
    ("evaluation.sampling.temprature", 0.5, "did you mean evaluation.sampling.temperature?"),
    ("objectives", {"positive_weight": 0.1}, "did you mean objective?"),
]
WRONG_TYPE = [
    ("rl.steps", "70", "a whole number, 0 or more"),
    ("rl.steps", 70.0, "a whole number"),
    ("rl.steps", True, "a whole number"),
    ("rl.steps", None, "a whole number"),
    ("rl.optimizer.learning_rate", "2e-5", "a number, 0.0 or more"),
    ("rl.optimizer.learning_rate", False, "a number"),
    ("rl.shuffle_rewards", 1, "true or false"),
    ("name", 5, "a text"),
    ("algorithm", ["nsr"], "a text"),
    ("compare", {"nsr": 1}, "a list of names"),
    ("compare", ("nsr", 2), "a list of names"),
    ("objective", 0.1, "options by name"),
    ("rl", 3, "is a group of settings"),
    ("rl.optimizer", None, "is a group of settings"),
]
OUT_OF_RANGE = [
    ("rl.steps", -1, "0 or more"),
    ("rl.prompts", 0, "1 or more"),
    ("task.countdown.numbers", 7, "from 2 to 6"),
    ("evaluation.sampling.top_p", 0.0, "from 1e-06 to 1.0"),
    ("seed", 2**31, "from 0 to 2147483647"),
    ("rl.optimizer.learning_rate", float("nan"), "a number"),
    ("rl.optimizer.weight_decay", float("inf"), "a number"),
    ("mode", "trian", "did you mean train?"),
    ("task.kind", "chess", "one of countdown, arithmetic"),
]
DO_NOT_FIT = [
    ("model.kv_heads", 3, "must divide model.heads = 4"),
    ("model.head_dim", 31, "must be even"),
    ("model.source", " ", "must be random"),
    ("rl.minibatches", 7, "must divide rl.prompts = 64"),
    ("rl.microbatches", 5, "must divide the 16 prompts of a mini-batch"),
    ("task.countdown.low", 13, "at most task.countdown.high = 12"),
    ("rl.max_tokens", 10, "at least 11, the answer to 3 numbers"),
    ("evaluation.sampling.max_tokens", 10, "at least 11, the answer to 3 numbers"),
    ("task.countdown.limit", 11, "at least task.countdown.high = 12"),
    ("task.countdown.operations", "+^", "some of + - * /"),
    ("task.countdown.operations", "++", "at most once"),
    ("task.countdown.operations", "", "some of + - * /"),
    ("task.arithmetic.digits_low", 3, "at most task.arithmetic.digits_high = 2"),
    ("compare", ("nsr", "nsr"), "twice"),
    ("name", "../elsewhere", "names a folder"),
    ("algorithm", "", "must not be empty"),
    ("workdir", "", "must not be empty"),
]


@pytest.mark.parametrize(("key", "value", "message"), UNKNOWN + WRONG_TYPE + OUT_OF_RANGE + DO_NOT_FIT)
def test_t61_a_mistake_names_key_value_and_what_is_allowed(key, value, message):
    with pytest.raises(edge.ConfigError) as caught:
        edge.read_experiment(nested(key, value))
    text = str(caught.value)
    assert text.startswith(f"config.{key} = {value!r}: ")
    assert message in text
    assert "\n" not in text


def test_t61_the_same_mistake_in_a_config_dict_is_found_when_it_is_read():
    config = edge.to_config_dict(Experiment())
    config.rl.steps = "many"
    with pytest.raises(edge.ConfigError, match=r"config\.rl\.steps = 'many': must be a whole number"):
        edge.read_experiment(config)


def test_compare_mode_needs_algorithms():
    with pytest.raises(edge.ConfigError, match=r"compare = \(\).*--config.compare=psr,nsr"):
        edge.read_experiment({"mode": "compare"})


def test_defaults_survive_the_round_trip():
    assert edge.read_experiment(edge.to_config_dict(Experiment())) == Experiment()
    assert edge.read_experiment({}) == Experiment()


def test_changed_settings_survive_the_round_trip():
    experiment = dataclasses.replace(
        Experiment(), compare=("psr", "nsr"), mode="compare", objective={"positive_weight": 0.05},
        rl=RL(steps=3, prompts=12, minibatches=3, microbatches=2), model=Model(source="weights.gguf"))
    assert edge.read_experiment(edge.to_config_dict(experiment)) == experiment


@given(st.sets(st.sampled_from(sorted(setting.key for setting in edge.settings()))))
def test_what_a_config_leaves_out_keeps_its_default(keys):
    full = edge.to_config_dict(Experiment()).to_dict()
    partial = copy.deepcopy(full)
    for key in keys:
        *groups, name = key.split(".")
        holder = partial
        for group in groups:
            holder = holder[group]
        del holder[name]
    assert edge.read_experiment(partial) == edge.read_experiment(full)


def test_groups_that_share_a_record_keep_their_own_defaults():
    experiment = edge.read_experiment({"warm_start": {"optimizer": {"clip_norm": 2.0}}})
    assert experiment.warm_start.optimizer.learning_rate == Experiment().warm_start.optimizer.learning_rate
    assert experiment.warm_start.optimizer.clip_norm == 2.0
    assert experiment.rl.optimizer == Experiment().rl.optimizer


def test_a_whole_number_is_a_number():
    value = edge.read_experiment({"rl": {"temperature": 1}}).rl.temperature
    assert value == 1.0
    assert type(value) is float


def test_a_kernel_that_reads_whole_rows_refuses_parts_of_them():
    with pytest.raises(edge.ConfigError, match=r"mesh\.context = 2: must be 1 .* give model\.attention=xla"):
        edge.read_experiment({"mesh": {"context": 2}, "model": {"attention": "splash"}})


@pytest.mark.parametrize("value", ["psr,nsr", ["psr", "nsr"], ("psr", "nsr"), ("psr, nsr",)])
def test_names_come_as_a_list_or_with_commas(value):
    assert edge.read_experiment({"compare": value}).compare == ("psr", "nsr")


def test_objective_takes_any_option():
    config = edge.to_config_dict(Experiment())
    config.objective.positive_weight = 0.05
    config.objective.clip = {"low": 0.2}
    assert edge.read_experiment(config).objective == {"positive_weight": 0.05, "clip": {"low": 0.2}}


def test_two_configs_share_nothing():
    first, second = edge.to_config_dict(Experiment()), edge.to_config_dict(Experiment())
    first.rl.steps = 1
    first.objective.positive_weight = 0.5
    assert second.rl.steps == Experiment().rl.steps
    assert edge.read_experiment(second).objective == Experiment().objective == {}


def test_every_setting_says_what_it_is_for_and_allows_its_default():
    for setting in edge.settings():
        assert setting.limits["doc"], setting.key
        edge.read_experiment(nested(setting.key, setting.default))
    text = edge.describe()
    assert all(f"--config.{setting.key}=" in text for setting in edge.settings())


def test_presets_are_chosen_by_name():
    presets = {"": 0, "smoke": 1, "compare": 2}
    assert edge.choose_preset("", presets) == 0
    assert edge.choose_preset("smoke", presets) == 1
    with pytest.raises(edge.ConfigError, match=r"'smoek': no such preset; there are smoke, compare; .* smoke\?"):
        edge.choose_preset("smoek", presets)


class TestCommand:
    """`read_command`, in this process; tests/test_run.py starts the program itself."""

    @pytest.fixture
    def config_file(self, tmp_path):
        def write(body, name="some.py"):
            path = tmp_path / name
            path.write_text("from rl_reasoning import edge\nfrom rl_reasoning.config import Experiment\n\n"
                            "def get_config(preset=''):\n    config = edge.to_config_dict(Experiment())\n"
                            f"    {body}\n    return config\n")
            return str(path)
        return write

    def test_overrides_have_the_declared_type(self, config_file):
        # The file makes the learning rate an int; the command line still reads a number.
        default = config_file("config.rl.optimizer.learning_rate = 1")
        experiment = edge.read_command(
            ["run.py", "--config.rl.optimizer.learning_rate=0.5", "--config.name=123", "--config.rl.steps", "7",
             "--config.rl.shuffle_rewards", "--config.compare=psr,nsr", "--config.objective.positive_weight=0.05"],
            default)
        assert experiment.rl.optimizer.learning_rate == 0.5
        assert experiment.name == "123"
        assert experiment.rl.steps == 7
        assert experiment.rl.shuffle_rewards is True
        assert experiment.compare == ("psr", "nsr")
        assert experiment.objective == {"positive_weight": 0.05}

    def test_the_named_file_wins_over_the_default(self, config_file, tmp_path):
        named, default = config_file("config.seed = 3", "named.py"), str(tmp_path / "never_read.py")
        assert edge.read_command(["run.py", f"--config={named}"], default).seed == 3
        assert edge.read_command(["run.py", "--config", named, "--config.seed=4"], default).seed == 4

    def test_a_preset_reaches_the_file(self, config_file):
        path = config_file("config.name = 'preset-' + preset")
        assert edge.read_command(["run.py", f"--config={path}:tiny"], path).name == "preset-tiny"

    @pytest.mark.parametrize(("body", "message"), [
        ("config.rl.stpes = 3", r"config\.rl\.stpes = 3: no such setting; did you mean rl\.steps\?"),
        ("config.rl.steps = '3'", r"config\.rl\.steps = '3': must be a whole number"),
        ("config.rl.steps = -3", r"config\.rl\.steps = -3: must be a whole number, 0 or more"),
        ("config = None", r"config = None: is a group of settings"),
        ("raise OSError('disk gone')", r"some\.py:6: OSError: disk gone"),
        ("config.rl.steps = 3 + 'x'", r"some\.py:6: TypeError"),
        ("config.rl.steps = undefined", r"some\.py:6: NameError: name 'undefined'"),
        ("config.rl.steps = (", r"some\.py.*SyntaxError|SyntaxError.*some\.py"),
    ])
    def test_t61_a_mistake_in_a_config_file(self, config_file, body, message):
        with pytest.raises(edge.ConfigError, match=message):
            edge.read_command(["run.py"], config_file(body))

    @pytest.mark.parametrize(("argument", "message"), [
        ("--config.objective.clip.low=0.2", r"config\.objective\.clip\.low = '0\.2': objective holds plain options"),
        ("--config.seed.x=3", r"config\.seed\.x = '3': no such setting"),
        ("--config.=3", r"config = '3': no such setting"),
        ("--config.compare=(1,2)", r"config\.compare = \(1, 2\): must be a list of names"),
        ("--config.seed=1e3", r"config\.seed = '1e3': must be a whole number from 0"),
        ("--config", r"--config=: there is no such file"),
        ("--config.rl", r"config\.rl = '': is a group of settings"),
    ])
    def test_t61_a_mistake_on_the_command_line(self, config_file, argument, message):
        with pytest.raises(edge.ConfigError, match=message):
            edge.read_command(["run.py", argument], config_file("pass"))

    def test_overrides_come_after_the_file_that_they_change(self, config_file):
        path = config_file("pass")
        with pytest.raises(edge.ConfigError, match="before a value for --config was specified"):
            edge.read_command(["run.py", "--config.seed=3", f"--config={path}"], path)

    @pytest.mark.parametrize("body", ["raise OSError('disk gone')", "config = None"])
    def test_a_broken_file_is_reported_with_overrides_too(self, config_file, body):
        with pytest.raises(edge.ConfigError, match=r"disk gone|config = None|NoneType"):
            edge.read_command(["run.py", "--config.rl.steps=3"], config_file(body))


def test_a_run_folder_that_is_not_there_is_named_as_one():
    with pytest.raises(edge.ConfigError, match=r"runs/nothing is no run folder"):
        edge.read_command(["run.py", "--config=experiments/configs/evaluate.py:runs/nothing"], "")
