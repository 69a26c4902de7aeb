"""Maths answers: found in a text, brought to one spelling, compared. No jax, and no sympy until a grader needs it."""
