"""What a process's environment has to say before it compiles for TPUs that are not there."""

# Nothing is run, so nothing is asked of a TPU's neighbours; the host's own work is on the CPU. With the names of a host
# libtpu does not complain that it cannot find them.
NO_TPU = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
          "TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0", "TPU_ACCELERATOR_TYPE": "v5litepod-4"}
