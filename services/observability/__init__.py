"""What the running services are doing, what they wait for, and what an operator has to know about it."""
