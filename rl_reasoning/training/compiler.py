"""How updates are compiled for a CPU."""

import functools

import jax

_WANTED: dict[str, bool | int] = {
    "xla_backend_optimization_level": 1,  # as fast as the default, which takes a quarter longer to compile
    "xla_cpu_copy_insertion_use_region_analysis": True,  # else all moments are copied before they are updated
}


@functools.cache
def options_for_cpu() -> dict[str, bool | int]:
    """Those of the options that this version of XLA has; what it does not know it refuses."""
    return {name: value for name, value in _WANTED.items() if _is_known(name, value)}


def _is_known(name: str, value: bool | int) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
