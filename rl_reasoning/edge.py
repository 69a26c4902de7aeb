"""The edge between what a person typed and what the program runs: checked once, here.

`read_experiment` turns a config (nested keys and values) into the frozen records of
`rl_reasoning.config`. Whatever is wrong ends in one `ConfigError` that names the dotted key and its
value, says what is allowed, and gives the nearest valid key. Imports no jax: a typo costs a moment.
"""

import dataclasses
import difflib
import functools
import math
import pathlib
import re
import traceback
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FieldReference, config_flags

from rl_reasoning.config import Experiment
from rl_reasoning.rules import broken_rules

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text",
          tuple: "a list of names", dict: "options by name"}


class ConfigError(ValueError):
    """A setting that cannot be; the message is meant for the person who typed it."""


def _error(key: str, value: Any, allowed: str) -> ConfigError:
    return ConfigError(f"config{'.' if key else ''}{key} = {value!r}: {allowed}")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One leaf of the settings: its dotted key, the type it has, its default, and what is allowed."""

    key: str
    kind: type
    default: Any
    limits: Mapping[str, Any]

    @property
    def allowed(self) -> str:
        """What a value may be, in words."""
        low, high, choices = (self.limits.get(name) for name in ("low", "high", "choices"))
        if choices:
            return "one of " + ", ".join(choices)
        if low is not None and high is not None:
            return f"{_KINDS[self.kind]} from {low} to {high}"
        if low is not None:
            return f"{_KINDS[self.kind]}, {low} or more"
        return _KINDS[self.kind]

    def error(self, value: Any) -> ConfigError:
        """The error for a value that this setting cannot take."""
        near = difflib.get_close_matches(str(value), self.limits.get("choices") or (), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return _error(self.key, value, f"must be {self.allowed} ({self.limits['doc']}){hint}")


def read_command(argv: list[str], default: str) -> Experiment:
    """The experiment that a command line describes.

    `--config=FILE.py[:PRESET]` loads a file's `get_config(PRESET)`, and `--config.KEY=VALUE` changes one setting.

    Args:
      argv: the command line, the program's name first.
      default: the config file when the command line names none.

    Raises:
      ConfigError: whatever is wrong with the command line, the file, or the settings.
    """
    for key, value in _assignments(argv):
        if key is not None:
            find_setting(key, value)
        elif not pathlib.Path(value.split(":", 1)[0]).is_file():
            raise ConfigError(f"--config={value}: there is no such file, looking from {pathlib.Path.cwd()}")
    values = flags.FlagValues()
    try:
        # New keys are accepted here for the sake of `objective`; find_setting has refused the others.
        holder = config_flags.DEFINE_config_file("config", default, flag_values=values, lock_config=False,
                                                 accept_new_attributes=True, sys_argv=argv)
        extra = values(argv)[1:]
        config = holder.value
        hasattr(config, "keys")  # Raises, when the file raised an OSError: config_flags keeps that back until now.
    except Exception as error:
        raise _explain(error) from error
    if extra:
        raise ConfigError(f"unexpected argument {extra[0]!r}; settings are written --config.KEY=VALUE")
    return read_experiment(config)


def read_experiment(config: ConfigDict | Mapping[str, Any]) -> Experiment:
    """The experiment that a config describes; what the config leaves out keeps its default.

    Raises:
      ConfigError: an unknown key, a value of the wrong type or out of range, or values that do not fit together.
    """
    given = config.to_dict() if isinstance(config, ConfigDict) else config
    experiment = _read_group(Experiment(), given, "")
    for key, value, rule in broken_rules(experiment):
        raise _error(key, value, rule)
    return experiment


def to_config_dict(experiment: Experiment) -> ConfigDict:
    """A config with every setting of `experiment`, for a config file to start from.

    A leaf remembers its declared type, so a command line is parsed by it whatever a config file assigned;
    `read_experiment` is the one place that judges values, so assigning a wrong one raises nothing here.
    """
    return _group_config(experiment)


def settings(experiment: Any = None, prefix: str = "") -> Iterator[Setting]:
    """Every leaf of an experiment's settings, in the order of `rl_reasoning.config`; None is the defaults."""
    record = Experiment() if experiment is None else experiment
    hints = typing.get_type_hints(type(record))
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            yield from settings(value, f"{prefix}{field.name}.")
        else:
            yield Setting(prefix + field.name, _kind(hints[field.name]), value, field.metadata)


def find_setting(key: str, value: Any) -> Setting:
    """The setting that a dotted key names; an option below `objective` is found as `objective`.

    Raises:
      ConfigError: there is no such setting; `value` only appears in the message.
    """
    known = _known()
    if key in known:
        return known[key]
    group, option = _group_of_options(key)
    if group:
        if "." in option:
            raise _error(key, value, f"{group} holds plain options, as in {group}.{option.split('.')[0]}")
        return known[group]
    below = [name for name in known if name.startswith(key + ".")]
    if below:
        raise _error(key, value, f"is a group of settings; set one of them, such as {below[0]}")
    raise _error(key, value, f"no such setting; did you mean {' or '.join(_nearest(key, list(known)))}?")


def read_text_value(key: str, text: str) -> Any:
    """The value of a setting that is written as text, as on a command line.

    Raises:
      ConfigError: there is no such setting, or the text is no value of its type.
    """
    setting = find_setting(key, text)
    if setting.kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if setting.kind in (int, float):
        try:
            return setting.kind(text)
        except ValueError:
            raise setting.error(text) from None
    return text


def choose_preset(name: str, presets: Mapping[str, Any]) -> Any:
    """The entry of a config file's table of presets; "" is the run without a preset.

    Raises:
      ConfigError: there is no such preset; the message lists them.
    """
    if name not in presets:
        near = difflib.get_close_matches(name, presets, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise _error("", name, f"no such preset; there are {', '.join(filter(None, presets))}{hint}") from None
    return presets[name]


def apply_preset(config: ConfigDict, name: str, presets: Mapping[str, Callable[[ConfigDict], None]]) -> None:
    """Changes a config by one of its file's presets.

    Every file has two beside its own: "" changes nothing, and list prints the algorithms and runs nothing.

    Raises:
      ConfigError: see `choose_preset`.
    """
    def list_algorithms(config: ConfigDict) -> None:
        config.mode = "list"

    choose_preset(name, {"": lambda config: None, **presets, "list": list_algorithms})(config)


def describe() -> str:
    """A table of every setting: key, default, what is allowed, and what it is for."""
    rows = [(f"--config.{setting.key}={_text(setting.default)}", f"{setting.limits['doc']} ({setting.allowed})")
            for setting in settings()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {doc}" for name, doc in rows)


def _group_config(record: Any) -> ConfigDict:
    hints = typing.get_type_hints(type(record))
    config = ConfigDict(type_safe=False)
    for field in dataclasses.fields(record):
        value, kind = getattr(record, field.name), _kind(hints[field.name])
        if dataclasses.is_dataclass(value):
            config[field.name] = _group_config(value)
        elif kind is dict:
            config[field.name] = ConfigDict(value, type_safe=False)
        else:
            config[field.name] = FieldReference(value, field_type=kind)
    return config


@functools.cache
def _known() -> Mapping[str, Setting]:
    """The settings by their dotted key; they cannot change while a program runs."""
    return types.MappingProxyType({setting.key: setting for setting in settings()})


def _kind(hint: Any) -> type:
    """The class behind an annotation: tuple for tuple[str, ...]."""
    return typing.get_origin(hint) or hint


def _group_of_options(key: str) -> tuple[str, str]:
    """`objective.clip_low` as ("objective", "clip_low") for a setting that holds options; else two empty texts."""
    groups = (name for name, setting in _known().items() if setting.kind is dict and key.startswith(f"{name}."))
    return next(((name, key.removeprefix(f"{name}.")) for name in groups), ("", ""))


def _assignments(argv: list[str]) -> Iterator[tuple[str | None, str]]:
    """Each --config.KEY=VALUE as (KEY, VALUE), and --config=FILE as (None, FILE)."""
    for argument, following in zip(argv[1:], [*argv[2:], ""], strict=False):
        if found := re.fullmatch(r"--?(?:no)?config(?:\.([^=]*))?(?:=(.*))?", argument, re.DOTALL):
            yield found[1], following if found[2] is None else found[2]


def _explain(error: Exception) -> ConfigError:
    """One readable error for what absl could not parse, or for whatever a config file raised."""
    if found := re.match(r"flag --config\.(.+?)=(.*?): ", str(error), re.DOTALL):
        return find_setting(found[1], found[2]).error(found[2])
    if isinstance(error, flags.UnrecognizedFlagError):
        near = _nearest(error.flagname, list(_known()))[0]
        return ConfigError(f"unknown flag --{error.flagname}; settings are written --config.KEY=VALUE; "
                           f"did you mean --config.{near}?")
    cause: BaseException = error
    while earlier := cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__):
        cause = earlier
    if isinstance(cause, ConfigError):
        return cause
    if isinstance(cause, flags.Error):
        return ConfigError(str(cause))
    frame = traceback.extract_tb(cause.__traceback__)[-1]
    return ConfigError(f"the config file failed at {frame.filename}:{frame.lineno}: {type(cause).__name__}: {cause}")


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _nearest(key: str, known: list[str]) -> list[str]:
    """The valid keys that look most like `key`: the same last name in another group, else the closest spelling."""
    same_name = [name for name in known if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]

    def likeness(name: str) -> float:
        whole = difflib.SequenceMatcher(None, key, name).ratio()
        last = difflib.SequenceMatcher(None, key.rsplit(".", 1)[-1], name.rsplit(".", 1)[-1]).ratio()
        return max(whole, last)

    best = sorted(same_name or known, key=likeness, reverse=True)
    return best[:2] if same_name else best[:1]


def _read_group(default: Any, given: Any, prefix: str) -> Any:
    """`default`, a record of settings, with the values that `given` holds."""
    if not isinstance(given, Mapping):
        names = ", ".join(field.name for field in dataclasses.fields(default))
        raise _error(prefix.rstrip("."), given, f"is a group of settings with the keys {names}")
    changes = {}
    for name, value in given.items():
        current = getattr(default, str(name), None)
        if dataclasses.is_dataclass(current):
            changes[name] = _read_group(current, value, f"{prefix}{name}.")
        else:
            changes[name] = _read_value(find_setting(f"{prefix}{name}", value), value)
    return dataclasses.replace(default, **changes)


def _read_value(setting: Setting, value: Any) -> Any:
    """`value` in the setting's type, when it has that type and is allowed."""
    if setting.kind is dict and isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return dict(value)
    if setting.kind is tuple:
        return _read_names(setting, value)
    # bool is a subclass of int, so types are compared, not tested with isinstance.
    numeric = setting.kind is float and type(value) is int
    if type(value) is not setting.kind and not numeric:
        raise setting.error(value)
    low, high, choices = (setting.limits.get(name) for name in ("low", "high", "choices"))
    if isinstance(value, float) and not math.isfinite(value):
        raise setting.error(value)
    if (low is not None and value < low) or (high is not None and value > high) or (choices and value not in choices):
        raise setting.error(value)
    return float(value) if numeric else value


def _read_names(setting: Setting, value: Any) -> tuple[str, ...]:
    """A tuple of names from a sequence, or from one text with commas, as a command line gives it."""
    parts = (value,) if isinstance(value, str) else value
    if not isinstance(parts, (tuple, list)) or not all(isinstance(part, str) for part in parts):
        raise setting.error(value)
    names = (name.strip() for part in parts for name in part.split(","))
    return tuple(name for name in names if name)
