"""From a command to finished notebooks: parameters, cost, execution, and what is kept of a run and shown of it."""
