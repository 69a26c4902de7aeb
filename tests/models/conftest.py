import jax
import pytest

from rl_reasoning.models.decoder import DecoderConfig, initialize


@pytest.fixture(scope="session")
def config():
    return DecoderConfig(vocabulary=23, layers=2, width=16, heads=4, kv_heads=2, head_dim=6, mlp=24)


@pytest.fixture(scope="session")
def parameters(config):
    return initialize(config, jax.random.key(0))
