"""Sharding as data: what the axes of a decoder's arrays mean, and which mesh axes split each meaning.

The mesh has four axes. `data`: whole copies of the parameters, each with its own rows of a batch. `fsdp`: rows too,
and a slice of every parameter and of the optimizer's state, gathered when it is used (ZeRO, arXiv 1910.02054).
`context`: each row is cut along its length, and attention gathers keys and values (as in Llama 3, arXiv 2407.21783).
`tensor`: heads, the MLP and the vocabulary are split (Megatron, arXiv 1909.08053).
"""

from collections.abc import Mapping, Sequence

from jax.sharding import PartitionSpec

FSDP, CONTEXT, TENSOR = "fsdp", "context", "tensor"
AXES = ("data", FSDP, CONTEXT, TENSOR)
ROWS = ("data", FSDP)  # what splits the packed rows of a batch
BATCH = (*ROWS, CONTEXT)  # what splits all else in it, of which each part is on its own: answers, tokens, slots

# Meaning of a parameter's axis -> mesh axis; "" stays whole.
RULES: Mapping[str, str] = {
    "vocabulary": "tensor",
    "width": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "layers": "",
    "rank": "",
}

# Inputs and outputs of each linear map, by the last two names above its "kernel".
_LINEAR = {
    ("attention", "query"): ("width", "heads"),
    ("attention", "key"): ("width", "kv_heads"),
    ("attention", "value"): ("width", "kv_heads"),
    ("attention", "output"): ("heads", "width"),
    ("mlp", "gate"): ("width", "mlp"),
    ("mlp", "up"): ("width", "mlp"),
    ("mlp", "down"): ("mlp", "width"),
}


def axes_of(path: Sequence[str], rank: int) -> tuple[str, ...]:
    """What each axis of an array means, from the names that lead to it; "" for an axis without a meaning of its own.

    Whatever mirrors a parameter under the same names, such as a moment of the optimizer, gets the same. An array of
    another rank than the parameter (a factored moment) is small, and stays whole.
    """
    found = _axes(tuple(path))
    if "layers" in found and len(path) > 3 and path[-4].isdigit():  # of a list of layers, not of a stack
        found = found[1:]
    return found if len(found) == rank else ("",) * rank


def _axes(path: tuple[str, ...]) -> tuple[str, ...]:
    if path[-2:] == ("embed", "embedding"):
        return ("vocabulary", "width")
    if path[-2:] == ("head", "kernel"):
        return ("width", "vocabulary")
    inputs, outputs = _LINEAR.get((path[-3], path[-2]) if len(path) > 2 else ("", ""), ("", ""))
    return {"kernel": ("layers", inputs, outputs), "lora_a": ("layers", inputs, "rank"),
            "lora_b": ("layers", "rank", outputs), "bias": ("layers", outputs),
            "scale": ("layers", outputs)}.get(path[-1], ())


def spec(axes: Sequence[str], rules: Mapping[str, str], name: str = "an array") -> PartitionSpec:
    """How an array with these axes is split.

    Raises:
      ValueError: two of its axes would be split by one mesh axis.
    """
    split = [rules.get(axis, "") or None for axis in axes]
    for mesh_axis in filter(None, split):
        if split.count(mesh_axis) > 1:
            both = " and ".join(axis for axis, found in zip(axes, split, strict=True) if found == mesh_axis)
            raise ValueError(f"{name} has the axes {both}, and both would be split by the mesh axis {mesh_axis}: give "
                             f"one of them another with mesh.rules.NAME, or whole to leave it in one piece")
    return PartitionSpec(*split)
