"""An experiment's settings: frozen dataclasses, one for each part, read once at the edge.

A config file (`experiments/configs/*.py`) gives a `ml_collections.ConfigDict`; `rl_reasoning.edge`
checks it against these classes and builds an `Experiment`. Each field says what is allowed, so the
error for a bad value can say it too. This module imports no jax: a typo must cost a second.
"""

import dataclasses
from typing import Any

LATENT_METHODS = ("greedy", "latent", "noise", "best_of", "greedy_best_of", "majority")
FUNCTION_NAME = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"  # module:function


def setting(default: Any = dataclasses.MISSING, *, doc: str, low: float | None = None, high: float | None = None,
            choices: tuple[str, ...] | None = None) -> Any:
    """A dataclass field with what is allowed: an inclusive range or a set of names."""
    limits = {"doc": doc, "low": low, "high": high, "choices": choices}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=limits)
    return dataclasses.field(default=default, metadata=limits)


@dataclasses.dataclass(frozen=True)
class Countdown:
    """Reach a target from k numbers, each used once, in k - 1 steps."""

    numbers: int = setting(3, low=2, high=6, doc="how many numbers a problem has")
    low: int = setting(1, low=1, doc="smallest number")
    high: int = setting(12, low=1, doc="largest number")
    limit: int = setting(60, low=1, doc="largest value that a step may give; values are in 0..limit")
    operations: str = setting("+-*", doc="which of + - * / a step may use")
    held_out: float = setting(0.13, low=0.01, high=0.9, doc="share of the problems that the hash holds out")


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """Sums from reasoning-gym's chain_sum, answered in text."""

    terms: int = setting(2, low=2, high=8, doc="numbers in a sum")
    digits_low: int = setting(1, low=1, high=6, doc="fewest digits of a number")
    digits_high: int = setting(2, low=1, high=6, doc="most digits of a number")
    held_out: float = setting(0.2, low=0.01, high=0.9, doc="share of the problems that the hash holds out")


@dataclasses.dataclass(frozen=True)
class Math:
    """Problems of mathematics from files, their answers graded.

    A source is the path of a .parquet, .jsonl or .json file (also looked for in the folder that the environment
    variable RL_REASONING_DATA names), hf:OWNER/NAME/FILE on the Hugging Face hub, or tfds:NAME:SPLIT.
    """

    train: tuple[str, ...] = setting((), doc="sources of the problems that are trained on")
    weights: tuple[str, ...] = setting((), doc="a weight for each training source; none: all problems alike")
    held_out: tuple[str, ...] = setting((), doc="sources of the problems that are evaluated")
    levels: tuple[str, ...] = setting((), doc="keep only problems of these levels, as in 1,2; none keeps all")
    prompt: str = setting("boxed", choices=("boxed", "tags", "plain"), doc="what the question is followed by")
    answer_form: str = setting("any", choices=("any", "boxed", "tags", "phrase"), doc="where an answer is looked for")
    grader: str = setting("math_verify", choices=("exact", "math_verify", "is_equiv", "math_equal"),
                          doc="what decides whether an answer is right")
    second_grader: str = setting("math_equal", choices=("exact", "math_verify", "is_equiv", "math_equal"),
                                 doc="what is asked too on a share of the answers; disagreement is counted")
    second_share: float = setting(0.01, low=0.0, high=1.0, doc="share of answers for the second grader")
    several: str = setting("skip", choices=("skip", "any", "all"), doc="a row with several answers: skipped, any is "
                           "right, or all are wanted")
    strict: bool = setting(False, doc="refuse a file with a bad row instead of skipping and counting it")
    prompt_tokens: int = setting(1024, low=1, doc="longest prompt; problems with longer ones are dropped and counted")
    overlap: str = setting("refuse", choices=("refuse", "drop", "allow"), doc="training problems that share their text "
                           "or 13 words in a row with a held-out one")


@dataclasses.dataclass(frozen=True)
class Code:
    """Programs that the policy writes, run against tests in a sandbox."""

    path: str = setting("", doc="JSON lines of problems, as rl_reasoning.tasks.code.problems describes them")
    reward: str = setting("binary", choices=("binary", "rate", "klear"),
                          doc="1 when every test passes, the share of tests that pass, or 2 * share - 1")
    tests: int = setting(16, low=1, doc="most tests an answer; the choice derives from the problem")
    seconds: float = setting(3.0, low=1.0, high=600.0, doc="processor seconds of a program, all its tests together")
    memory: int = setting(256, low=64, doc="MiB that each process of a program may allocate")
    repeats: int = setting(1, low=1, high=5, doc="runs of each answer; when they disagree it is unscorable")
    isolation: str = setting("namespace", choices=("namespace", "landlock", "none"),
                             doc="weakest isolation to accept; none is resource limits without isolation")
    strict: bool = setting(False, doc="refuse a file with a bad row, instead of counting and skipping it")
    held_out: float = setting(0.2, low=0.01, high=0.9, doc="share of the problems that the hash holds out")


@dataclasses.dataclass(frozen=True)
class Path:
    """Paths in a random directed graph without circles, which the policy only knows from paths of other pairs."""

    nodes: int = setting(100, low=2, high=1000, doc="nodes of the graph")
    edge_probability: float = setting(0.1, low=0.0, high=1.0, doc="chance of an edge from a node to a later one")
    walks: int = setting(20, low=1, high=1000, doc="random training paths of each pair of nodes")
    held_out: float = setting(0.5, low=0.01, high=0.99, doc="share of the pairs, edges aside, that the hash holds out")
    seed: int = setting(0, low=0, high=2**31 - 1, doc="of the graph, the split and the training paths")


@dataclasses.dataclass(frozen=True)
class Blocksworld:
    """Plans that turn one arrangement of blocks into another, one move a step."""

    blocks: int = setting(4, low=2, high=5, doc="blocks; 4 give 73 states, 5 give 501")
    walks: int = setting(12, low=1, high=1000, doc="random shortest training plans of each pair of states")
    held_out: float = setting(0.2, low=0.01, high=0.99, doc="share of the pairs, single moves aside, that are held out")
    seed: int = setting(0, low=0, high=2**31 - 1, doc="of the split and the training plans")


@dataclasses.dataclass(frozen=True)
class Gym:
    """Problems of one of reasoning-gym's generators, scored by that generator."""

    name: str = setting("chain_sum", doc="a generator of reasoning-gym, such as basic_arithmetic or maze")
    options: dict[str, Any] = setting({}, doc="the generator's own options, as in options.min_terms=2")
    level: int = setting(-1, low=-1, high=1000, doc="level of the generator's curriculum, its highest where it has "
                         "fewer; -1 keeps the generator's defaults; options come on top")
    size: int = setting(512, low=1, doc="problems to train on")
    seed: int = setting(0, low=0, high=2**31 - 1, doc="of the problems")
    held_out: float = setting(0.2, low=0.01, high=0.9, doc="share of the problems that the hash holds out")


@dataclasses.dataclass(frozen=True)
class Own:
    """Problems from a function of your own, judged by verifier.function."""

    problems: str = setting("", doc="module:function () -> problems, as in my_task:problems")
    held_out: float = setting(0.2, low=0.01, high=0.9, doc="share of the problems that the hash holds out")


@dataclasses.dataclass(frozen=True)
class Task:
    """Which problems, and the settings of that kind of problem."""

    kind: str = setting("countdown", doc="the kind of problem", choices=(
        "countdown", "arithmetic", "math", "code", "path", "blocksworld", "gym", "own"))
    countdown: Countdown = dataclasses.field(default_factory=Countdown)
    arithmetic: Arithmetic = dataclasses.field(default_factory=Arithmetic)
    math: Math = dataclasses.field(default_factory=Math)
    code: Code = dataclasses.field(default_factory=Code)
    path: Path = dataclasses.field(default_factory=Path)
    blocksworld: Blocksworld = dataclasses.field(default_factory=Blocksworld)
    gym: Gym = dataclasses.field(default_factory=Gym)
    own: Own = dataclasses.field(default_factory=Own)


@dataclasses.dataclass(frozen=True)
class Verifier:
    """The worker processes that score answers; tasks that take microseconds an answer do without."""

    function: str = setting("", doc="module:function (problem, text) -> reward or Verdict; empty is the task's own")
    workers: int = setting(0, low=0, high=1024, doc="worker processes; 0 is one a core, at most 8")
    seconds: float = setting(5.0, low=0.05, high=3600.0, doc="wall seconds for one answer, then it is unscorable")
    memory: int = setting(512, low=16, doc="MiB that a worker may allocate beyond what it starts with")


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
class Optimizer:
    """An optimizer of optax with linear warm-up and a clipped global norm."""

    name: str = setting("adamw", choices=("adamw", "adafactor", "muon", "lion", "sgd"), doc="which")
    learning_rate: float = setting(2e-5, low=0.0, doc="peak learning rate")
    warmup: int = setting(8, low=0, doc="updates of linear warm-up")
    decay_to: float = setting(1.0, low=0.0, high=1.0, doc="last rate as a share of the peak; 1 is constant")
    schedule: str = setting("linear", choices=("linear", "cosine", "constant"), doc="how the rate goes there")
    beta1: float = setting(0.9, low=0.0, high=0.999999, doc="decay of the first moment")
    beta2: float = setting(0.999, low=0.0, high=0.999999, doc="decay of the second moment")
    weight_decay: float = setting(0.0, low=0.0, doc="decoupled weight decay")
    decayed: str = setting("all", choices=("all", "matrices"), doc="what it shrinks: all, or neither norms nor biases")
    clip_norm: float = setting(1.0, low=0.0, doc="largest global gradient norm; 0 never clips")
    dtype: str = setting("float32", choices=("float32", "bfloat16"), doc="type of the moments")
    average: float = setting(0.0, low=0.0, high=0.999999, doc="decay of averaged parameters, which are then the ones "
                             "that are evaluated and kept; 0 averages nothing")


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """Supervised training of the base: on random valid traces, some with a wrong target, or on text."""

    text: tuple[str, ...] = setting((), doc="train on these instead of traces: .txt files, or sources as of task.math "
                                    "whose rows have a column text")
    window: int = setting(128, low=2, doc="tokens of a piece of text; with text, batch counts pieces")
    steps: int = setting(600, low=0, doc="updates at the first share of wrong targets; 0 keeps the weights as they are")
    batch: int = setting(256, low=1, doc="traces an update")
    wrong: float = setting(0.5, low=0.0, high=1.0, doc="share of traces whose target is shuffled, first phase")
    refine_steps: int = setting(500, low=0, doc="further updates at the second share")
    refine_wrong: float = setting(0.3, low=0.0, high=1.0, doc="share of wrong targets, second phase")
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(
        learning_rate=2e-3, warmup=50, decay_to=0.1, schedule="cosine", beta2=0.98, weight_decay=0.01))

    @property
    def updates(self) -> int:
        """Of both phases; 0 has no warm start."""
        return self.steps + self.refine_steps


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How answers are drawn."""

    temperature: float = setting(1.0, low=0.0, doc="0 takes the likeliest token")
    top_p: float = setting(1.0, low=1e-6, high=1.0, doc="smallest probability mass to sample from")
    top_k: int = setting(0, low=0, doc="sample from the k likeliest tokens; 0 is all of them")
    min_p: float = setting(0.0, low=0.0, high=1.0, doc="least probability, as a share of the likeliest token's")
    max_tokens: int = setting(12, low=1, doc="longest answer, end of sequence included")
    min_tokens: int = setting(0, low=0, doc="an answer does not end before it has so many tokens")
    stop: tuple[str, ...] = setting((), doc="texts that end an answer, which keeps them")
    stop_tokens: tuple[str, ...] = setting((), doc="numbers of tokens that end an answer beside the end of sequence")
    forbidden_tokens: tuple[str, ...] = setting((), doc="numbers of tokens that are never drawn")
    begin_with: str = setting("", doc="what every answer begins with; its tokens are the answer's, but not drawn")
    logprobs: str = setting("sampled", choices=("sampled", "policy"), doc="log-probabilities after top_p, top_k and "
                            "min_p, or before")
    slots: int = setting(0, low=0, doc="most answers in work at once, when one ends the next begins; 0 is all")


@dataclasses.dataclass(frozen=True)
class RL:
    """The reinforcement-learning phase."""

    steps: int = setting(70, low=0, doc="rollouts, each followed by its updates")
    prompts: int = setting(64, low=1, doc="problems a step")
    samples: int = setting(8, low=1, doc="answers a problem")
    minibatches: int = setting(4, low=1, doc="updates a pass over the rollout; must divide prompts")
    epochs: int = setting(1, low=1, doc="passes over each rollout")
    microbatches: int = setting(1, low=1, doc="parts in which a mini-batch's gradient is summed: less memory")
    temperature: float = setting(1.0, low=1e-3, doc="of the rollouts and of the log-probabilities that are trained")
    max_tokens: int = setting(12, low=1, doc="longest answer, end of sequence included")
    row_length: int = setting(0, low=0, doc="tokens of a packed row of the update; 0 fits a prompt and all its answers")
    top_p: float = setting(1.0, low=1e-6, high=1.0, doc="smallest probability mass that rollouts are drawn from")
    top_k: int = setting(0, low=0, doc="rollouts are drawn from the k likeliest tokens; 0 is all of them")
    slots: int = setting(0, low=0, doc="most answers in work at once, when one ends the next begins; 0 is all")
    reference: bool = setting(True, doc="score rollouts under the first policy too, to log how far training has moved")
    analysis_every: int = setting(0, low=0, doc="steps between looks at where the gradient moves probability; 0: none")
    remat: str = setting("none", choices=("none", "dots", "block", "full", "offload"), doc="what the backward pass "
                         "computes again to save memory: nothing, all but matrix products, each layer, each layer "
                         "twice, or each layer from inputs kept in the host's memory")
    logits: int = setting(2**24, low=1, doc="logits that may exist at once on a device, whatever the batch; 2**24 are "
                          "64 MiB")
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    shuffle_rewards: bool = setting(False, doc="permute the rewards over all answers: a control that must not learn")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Pass@k on held-out problems."""

    problems: int = setting(128, low=1, doc="held-out problems")
    first: int = setting(0, low=0, doc="held-out problems to pass over: tune on others than those that are reported")
    samples: int = setting(256, low=1, doc="answers a problem")
    every: int = setting(0, low=0, doc="RL steps between evaluations along training; 0 is only before and after")
    batch: int = setting(1024, low=1, doc="answers sampled at once")
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    bootstrap: int = setting(1000, low=1, doc="resamples of the problems for the 95 % interval")
    by: tuple[str, ...] = setting((), doc="facts of the problems, such as degree, for tables of accuracy by their "
                                  "values; level, subject and type have theirs where all problems have them")
    traced: int = setting(4, low=0, doc="answers a problem whose tokens are kept, right ones and others")
    run: str = setting("", doc="modes evaluate and latent_search: the folder of the run whose policy is asked; empty "
                       "asks the base")
    step: int = setting(-1, low=-1, doc="which kept step of that run; 0 its base, -1 the last")


@dataclasses.dataclass(frozen=True)
class Latent:
    """Search in latent space at test time (arXiv 2505.13308); where the paper and its code differ, both can be had."""

    methods: tuple[str, ...] = setting(LATENT_METHODS, doc="rows of the table: greedy, latent, noise (random steps), "
                                       "best_of (draws), greedy_best_of (the likeliest answer, then draws), majority "
                                       "(a vote of draws)")
    reward: str = setting("perfect", choices=("perfect", "verifier", "self", "likelihood", "value"), doc="perfect: 0 "
                          "for a right answer, else -1; verifier: its reward less 1; self: the policy's own checks; "
                          "likelihood: its confidence; value: a value head fitted on training problems")
    fraction: float = setting(0.1, low=1e-6, high=1.0, doc="share of the first answer's tokens that become latents")
    cap: int = setting(300, low=1, doc="most latents of a problem")
    steps: int = setting(10, low=0, doc="answers after the first, unless one is good enough")
    threshold: float = setting(-0.2, doc="a reward above this ends a problem's search")
    tokens: str = setting("argmax", choices=("argmax", "sample"), doc="a latent's token: the likeliest (the code), or "
                          "drawn (the paper)")
    answer: str = setting("last", choices=("last", "best"), doc="what is returned: the last answer (paper and code), "
                          "or the one of highest reward")
    baseline: str = setting("none", choices=("none", "mean"), doc="subtracted from a reward: nothing, or the mean of "
                            "the problem's earlier rewards")
    noise: float = setting(0.03, low=0.0, doc="standard deviation of a random step, method noise")
    batch: int = setting(64, low=1, doc="problems side by side")
    checks: Sampling = dataclasses.field(default_factory=lambda: Sampling(temperature=0.0, max_tokens=64))
    format_penalty: float = setting(0.0, low=0.0, doc="weight, of 6 in all, that reward self takes off for an answer "
                                    "that cannot be read; the code's option has 2")
    value_problems: int = setting(2048, low=1, doc="training problems that reward value is fitted on, an answer each")
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(
        learning_rate=0.03, warmup=0, clip_norm=0.0))


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What is kept of a run while it goes on, so that it can go on after it was stopped or killed."""

    every: int = setting(10, low=1, doc="RL steps between two saves; the end and a stop are saved in any case")
    keep: int = setting(2, low=1, doc="how many of the last saves stay; the one of the best mean reward stays too")
    background: bool = setting(True, doc="write to the disk while training goes on")
    failures: int = setting(3, low=1, doc="saves in a row that may fail, as on a full disk, before the run ends")
    seconds: float = setting(20.0, low=0.1, high=3600.0, doc="after SIGTERM or Ctrl-C: how long a step may take to be "
                             "left before the last complete state is saved without it")


@dataclasses.dataclass(frozen=True)
class Watch:
    """Bands that a healthy run stays in: one line in the log when a metric leaves its band for three steps."""

    entropy_low: float = setting(0.005, low=0.0, doc="policy/entropy in nats below which exploration has ended")
    kl_high: float = setting(1.0, low=0.0, doc="policy/kl_reference in nats a token; 0 never warns")
    repetition_high: float = setting(0.5, low=0.0, high=1.0, doc="length/repetition, a share; 0 never warns")
    truncated_high: float = setting(0.5, low=0.0, high=1.0, doc="length/truncated, a share; 0 never warns")
    gradient_high: float = setting(100.0, low=0.0, doc="optimizer/gradient_norm before clipping; 0 never warns")
    skipped: int = setting(5, low=1, doc="steps in a row without any finite gradient, after which the run goes back to "
                           "the last good checkpoint and ends")


@dataclasses.dataclass(frozen=True)
class Mesh:
    """How many devices along each axis; 1 x 1 x 1 is the first device alone, 0 is as many as the other axes leave."""

    data: int = setting(1, low=0, doc="copies of the parameters, each with its own rows of a batch")
    fsdp: int = setting(1, low=0, doc="slices of parameters and optimizer state, each with its own rows too")
    tensor: int = setting(1, low=0, doc="slices of heads, MLP and vocabulary, all with the same rows")
    rules: dict[str, Any] = setting({}, doc="another mesh axis for an axis of rl_reasoning.parallel.RULES, or whole")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything a run needs."""

    name: str = setting("countdown", doc="names the run folder and the report")
    mode: str = setting("train", choices=("train", "compare", "evaluate", "latent_search", "list"),
                        doc="one algorithm, several, answers without training, a search for better ones without "
                        "training, or a table of all algorithms")
    algorithm: str = setting("w_reinforce", doc="an entry of rl_reasoning.algorithms")
    objective: dict[str, Any] = setting({}, doc="changes to the algorithm's own options")
    compare: tuple[str, ...] = setting((), doc="the algorithms of mode compare, run one after another")
    seed: int = setting(0, low=0, high=2**31 - 1, doc="everything random derives from it")
    workdir: str = setting("runs", doc="where run folders and the kept base go")
    resume: str = setting("auto", choices=("auto", "never", "always"),
                          doc="auto goes on with an unfinished run of the same settings; always refuses to begin anew")
    resume_changed: bool = setting(False, doc="go on though settings, data, tokenizer or code have changed; the "
                                   "changes are written to changes.jsonl")
    wandb: str = setting("", doc="a project of Weights & Biases that gets the metrics too, where wandb is installed")
    task: Task = dataclasses.field(default_factory=Task)
    verifier: Verifier = dataclasses.field(default_factory=Verifier)
    model: Model = dataclasses.field(default_factory=Model)
    warm_start: WarmStart = dataclasses.field(default_factory=WarmStart)
    rl: RL = dataclasses.field(default_factory=RL)
    evaluation: Evaluation = dataclasses.field(default_factory=Evaluation)
    latent: Latent = dataclasses.field(default_factory=Latent)
    checkpoint: Checkpoint = dataclasses.field(default_factory=Checkpoint)
    watch: Watch = dataclasses.field(default_factory=Watch)
    mesh: Mesh = dataclasses.field(default_factory=Mesh)
