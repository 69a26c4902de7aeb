"""Small programs that run a few times: compiling them is what costs, and these options make it quick."""

COMPILE_FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
