"""Settings of the policy, and of the devices that hold it."""

import dataclasses
from typing import Any

from rl_reasoning.config.setting import setting


@dataclasses.dataclass(frozen=True)
class Precision:
    """Number types of the policy; logits and log-probabilities are float32 always, and so are adapters."""

    parameters: str = setting("float32", choices=("float32", "bfloat16", "int8"),
                              doc="how weights are held; int8 is for the layers' linear maps and needs adapters")
    compute: str = setting("float32", choices=("float32", "bfloat16"), doc="what the layers multiply and add in")
    head: str = setting("float32", choices=("float32", "bfloat16"), doc="what hidden states and head are multiplied in")


@dataclasses.dataclass(frozen=True)
class LoRA:
    """Low-rank adapters: the policy's weights stay as they are and only the adapters are trained."""

    rank: int = setting(0, low=0, doc="inner width of an adapter; 0 trains all weights and no adapters")
    alpha: float = setting(32.0, low=1e-6, doc="an adapter's output is multiplied by alpha / rank")
    targets: tuple[str, ...] = setting(("*",), doc="patterns over attention.query, attention.key, attention.value, "
                                                   "attention.output, mlp.gate, mlp.up, mlp.down")


@dataclasses.dataclass(frozen=True)
class Model:
    """The policy: a decoder of these sizes from random weights, or a file that says its own sizes."""

    source: str = setting("random", doc="random, a GGUF file or a package that ships one, a Hugging Face folder, or "
                                        "hf:OWNER/NAME[@REVISION] to download one")
    prompt: str = setting("template", choices=("template", "qwen_boxed", "qwen3_thinking", "qwen3_no_thinking", "r1"),
                          doc="how chat turns are written: by the model's own template, or as a paper wrote them")
    attention: str = setting("xla", choices=("xla", "splash", "auto"), doc="how whole rows are attended to, in "
                             "training and scoring: by XLA, or on a TPU by jax's splash attention, which reads only "
                             "what is seen; auto is splash on a TPU where it can")
    decode_attention: str = setting("xla", choices=("xla", "kernel", "auto"), doc="how a new token attends to the "
                                    "cache: by XLA, or on a TPU by a kernel that reads only what is filled; auto is "
                                    "the kernel on a TPU")
    precision: Precision = dataclasses.field(default_factory=Precision)
    lora: LoRA = dataclasses.field(default_factory=LoRA)
    layers: int = setting(2, low=1, doc="decoder layers")
    width: int = setting(128, low=1, doc="residual width")
    heads: int = setting(4, low=1, doc="query heads")
    kv_heads: int = setting(2, low=1, doc="key and value heads; must divide heads")
    head_dim: int = setting(32, low=2, doc="width of a head")
    mlp: int = setting(352, low=1, doc="hidden width of the gated MLP")
    norms: str = setting("pre", choices=("pre", "post", "peri"), doc="where norms stand; peri is on both sides")
    qk_norm: bool = setting(False, doc="norms over each head of queries and keys")


@dataclasses.dataclass(frozen=True)
class Mesh:
    """How many devices along each axis; 1 along all is the first device alone, 0 is as many as the other axes leave."""

    data: int = setting(1, low=0, doc="copies of the parameters, each with its own rows of a batch")
    fsdp: int = setting(1, low=0, doc="slices of parameters and optimizer state, each with its own rows too")
    tensor: int = setting(1, low=0, doc="slices of heads, MLP and vocabulary, all with the same rows")
    context: int = setting(1, low=0, doc="slices of each packed row of the update, for rows too long for one device")
    sampler: int = setting(0, low=0, doc="devices, the last ones, that only sample, in copies of the parameters; the "
                           "axes above are then of the others. 0 samples and trains on the same ones in turn")
    sampler_tensor: int = setting(1, low=1, doc="slices of heads, MLP and vocabulary on them; must divide mesh.sampler")
    rules: dict[str, Any] = setting({}, doc="another mesh axis for an axis of rl_reasoning.parallel.RULES, or whole")


@dataclasses.dataclass(frozen=True)
class Distributed:
    """Several processes that do one job, each with its own devices: the hosts of a pod, or a machine that plays one."""

    coordinator: str = setting("", doc="HOST:PORT of process 0, or auto where the environment knows it, as on a TPU "
                               "pod; empty is one process alone")
    processes: int = setting(1, low=1, doc="how many there are; auto asks the environment")
    process: int = setting(0, low=0, doc="which of them this is; auto asks the environment")
    seconds: float = setting(600.0, low=0.1, doc="that a process may be late where all meet, before the others end")
    longest: float = setting(7200.0, low=0.0, doc="seconds that a part of a step may take before a process takes "
                             "the others for lost and ends; 0 is for ever")
    replicas_every: int = setting(50, low=0, doc="steps between two comparisons, bit for bit, of the copies that "
                                  "devices and processes hold of the parameters; 0 never compares")
