"""What a function takes that runs on the host and on devices alike."""

import jax
import numpy as np

Array = jax.Array | np.ndarray
