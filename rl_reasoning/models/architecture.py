"""What a decoder is, as data: sizes, norms, rotary positions, windows, types, adapters.

Every family that can be read is a value of `DecoderConfig`, never a subclass of the decoder.
"""

import dataclasses
import fnmatch

LINEAR = ("attention.query", "attention.key", "attention.value", "attention.output", "mlp.gate", "mlp.up", "mlp.down")
PLACEMENTS = ("pre", "post", "peri")
ATTENTIONS, DECODE_ATTENTIONS = ("xla", "splash"), ("xla", "kernel")
SCALINGS = ("linear", "llama3", "yarn")


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched to a longer context, see `models.rotary`.

    Attributes:
      kind: "linear", "llama3" or "yarn".
      factor: how many times longer the context becomes.
      original: the context that the frequencies were made for, in tokens; linear does not read it.
      low, high: turns within the original context between which frequencies pass from stretched to kept
        (llama3: low_freq_factor and high_freq_factor; yarn: beta_slow and beta_fast).
      magnitude: factor on sine and cosine (yarn's attention factor).
      truncate: yarn rounds the borders outwards to whole dimensions.
    """

    kind: str
    factor: float
    original: int = 8192
    low: float = 1.0
    high: float = 4.0
    magnitude: float = 1.0
    truncate: bool = True

    def __post_init__(self) -> None:
        if self.kind not in SCALINGS:
            raise ValueError(f"rotary scaling {self.kind!r} is unknown; known are {', '.join(SCALINGS)}")
        if not (self.factor > 0 and self.magnitude > 0 and self.original > 0 and 0 < self.low < self.high):
            raise ValueError(f"rotary scaling needs factor, magnitude and original above 0 and 0 < low < high: {self}")


@dataclasses.dataclass(frozen=True)
class LoRA:
    """Low-rank adapters (arXiv 2106.09685): a target's output gains (alpha / rank) x A B.

    Attributes:
      targets: patterns over `LINEAR`, such as "attention.*".
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        idle = [target for target in self.targets if not fnmatch.filter(LINEAR, target)]
        if idle or not self.targets:
            raise ValueError(f"adapter target {''.join(idle[:1])!r} matches none of {', '.join(LINEAR)}")
        if self.rank < 1:
            raise ValueError(f"adapter rank {self.rank} must be at least 1")

    def covers(self, name: str) -> bool:
        """Whether the linear map of this name has an adapter."""
        return any(fnmatch.fnmatchcase(name, target) for target in self.targets)


@dataclasses.dataclass(frozen=True)
class Precision:
    """Number types. Logits, log-softmax, norms' statistics, attention's softmax and adapters are float32 always.

    Attributes:
      parameters: how weights are held: "float32", "bfloat16" or "int8". int8 is for the layers' linear maps,
        with one float32 scale an output; the other weights are then of the compute type.
      compute: what layers multiply and add in, "float32" or "bfloat16".
      head: what hidden states and output head are multiplied in, "float32" or "bfloat16".
    """

    parameters: str = "float32"
    compute: str = "float32"
    head: str = "float32"

    @property
    def others(self) -> str:
        """The type of all weights but the layers' linear maps."""
        return self.compute if self.parameters == "int8" else self.parameters


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """A decoder-only transformer.

    Attributes:
      tied: the embedding is the output head too.
      qkv_bias, output_bias: biases of query, key and value (Qwen2), and of attention's output.
      qk_norm: RMSNorm over each head of queries and keys before they are turned (Qwen3).
      norms: where RMSNorm stands: "pre" x + M(N(x)); "post" N(x + M(x)); "peri" x + N(M(N(x))) (arXiv
        2502.02732, the output norms of Gemma 2). A final norm precedes the head in each.
      windows: one number a layer: how many latest positions it sees, itself included; 0 is all of them. Empty
        when every layer sees all.
      context: the longest sequence the model was made for, in tokens.
      attention: of whole rows: "xla", our own in plain products, or "splash", a kernel for TPUs (`models.splash`).
      decode_attention: of one new token against a cache: "xla", or "kernel", one for TPUs (`models.decode_kernel`).
      interpret: kernels for TPUs are interpreted, which any machine can do, slowly: for tests.
      mlp_blocks: how many parts of an MLP's hidden width whole rows go through one after the other (`GatedMLP`).
      for_cpu: decoding has its weights and caches as a CPU multiplies them fastest (`models.decoder.unstack_layers`).
      features_first: states are [features, rows], in decoding for a CPU (`models.decoder.extend` decides).
    """

    vocabulary: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-5
    tied: bool = True
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    rope_scaling: RopeScaling | None = None
    norms: str = "pre"
    windows: tuple[int, ...] = ()
    context: int = 32_768
    precision: Precision = Precision()
    lora: LoRA | None = None
    attention: str = "xla"
    decode_attention: str = "xla"
    interpret: bool = False
    mlp_blocks: int = 1
    for_cpu: bool = False
    features_first: bool = False

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads={self.kv_heads} must divide heads={self.heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even: rotary positions turn pairs")
        if self.norms not in PLACEMENTS:
            raise ValueError(f"norms={self.norms!r} must be one of {', '.join(PLACEMENTS)}")
        if self.windows and (len(self.windows) != self.layers or min(self.windows) < 0):
            raise ValueError(f"windows={self.windows} must be one number of 0 or more for each of {self.layers} layers")
        for name, known in (("attention", ATTENTIONS), ("decode_attention", DECODE_ATTENTIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(known)}")
        if self.attention == "splash" and any(self.windows):
            raise ValueError(f"model.attention='splash' cannot do the windows of this model's layers, of "
                             f"{max(self.windows)} positions: it sees a prompt whole or not at all; give xla")

    @property
    def sizes(self) -> dict[str, int]:
        """Into how many equal parts each axis of the parameters can be cut at most, by its name in `parallel.RULES`."""
        return {"vocabulary": self.vocabulary, "width": self.width, "heads": self.heads, "kv_heads": self.kv_heads,
                "mlp": self.mlp, "layers": self.layers} | ({"rank": self.lora.rank} if self.lora else {})

    def plain(self) -> "DecoderConfig":
        """The same decoder without adapters, and with weights that can be trained."""
        precision = dataclasses.replace(self.precision, parameters=self.precision.others)
        return dataclasses.replace(self, precision=precision, lora=None)
