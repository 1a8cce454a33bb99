"""Pure rules without a state of their own: retry, fairness between owners, scores, estimates of waiting times."""
