"""Pass@k and what goes with it, of any policy on any problems, and the claims that studies test."""
