"""Planning as path finding: a graph, pairs of nodes, and paths that lead from one to the other."""
