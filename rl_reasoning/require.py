"""How an option that cannot be is refused, in the same words everywhere."""


def require(ok: bool, name: str, value: object, allowed: str, fix: str) -> None:
    """Raises ValueError that names an option, its value, what is allowed and what to do."""
    if not ok:
        raise ValueError(f"{name} is {value!r}; allowed: {allowed}. {fix}")


def require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless `value` is one of `choices`."""
    require(value in choices, name, value, ", ".join(choices), "Give one of these names.")
