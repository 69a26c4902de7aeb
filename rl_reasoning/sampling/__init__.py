"""The decode engine: parameters and prompts to answers with log-probabilities."""
