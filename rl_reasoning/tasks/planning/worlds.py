"""The graphs to plan in: ALPINE's random graphs without circles, and Blocksworld."""

import numpy as np

from rl_reasoning.config import Blocksworld as BlocksworldSettings
from rl_reasoning.config import Path as PathSettings
from rl_reasoning.tasks.planning import graphs
from rl_reasoning.tasks.planning.task import PathFinding

State = tuple[str, ...]  # the stacks in the order of the alphabet, each from the table upwards


def path(settings: PathSettings) -> PathFinding:
    """Path finding in a random graph without circles (arXiv:2405.09220, section 4).

    Raises:
      ValueError: the graph has no edge.
    """
    adjacency = graphs.random_dag(settings.nodes, settings.edge_probability, settings.seed)
    if not adjacency.any():
        raise ValueError(f"task.path.nodes={settings.nodes}, edge_probability={settings.edge_probability} and "
                         f"seed={settings.seed} give a graph without edges: raise one of the first two")
    names = tuple(str(number) for number in range(1, settings.nodes + 1))
    return PathFinding("path", names, adjacency, graphs.walks_onward, settings.walks, settings.held_out,
                       settings.seed)


def blocksworld(settings: BlocksworldSettings) -> PathFinding:
    """Plans that turn one arrangement of blocks into another, a state a step; training plans are shortest ones.

    A state is written with a slash between its stacks, each from the table upwards: `ab/c`. A step takes the top
    block of a stack and puts it on another stack or on the table. Four blocks give the 73 states of the paper
    (arXiv:2405.09220, section 5), a shortest plan never passes through one of its 24 single towers.
    """
    states = block_states(settings.blocks)
    numbers = {state: number for number, state in enumerate(states)}
    adjacency = np.zeros((len(states), len(states)), bool)
    for state, number in numbers.items():
        adjacency[number, [numbers[after] for after in moves(state)]] = True
    return PathFinding("blocksworld", tuple("/".join(state) for state in states), adjacency,
                       graphs.walks_without_loops, settings.walks, settings.held_out, settings.seed)


def block_states(blocks: int) -> tuple[State, ...]:
    """Every arrangement of the blocks a, b, c, ... in stacks, in a fixed order: fewest stacks first."""
    states: set[State] = {()}
    for block in "abcdefgh"[:blocks]:
        states = {_state((*state[:i], *parts, *state[i + 1:])) for state in states
                  for i, stack in enumerate((*state, ""))
                  for parts in ([stack[:at] + block + stack[at:]] for at in range(len(stack) + 1))}
    return tuple(sorted(states, key=lambda state: (len(state), state)))


def moves(state: State) -> set[State]:
    """The states that one move leads to."""
    found = set()
    for i, stack in enumerate(state):
        rest, block = [*state[:i], stack[:-1], *state[i + 1:]], stack[-1]
        found.add(_state([*rest, block]))
        found |= {_state([*rest[:k], other + block, *rest[k + 1:]]) for k, other in enumerate(rest) if k != i}
    return found - {state}


def _state(stacks: list[str] | State) -> State:
    return tuple(sorted(stack for stack in stacks if stack))
