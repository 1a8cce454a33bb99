"""What the running services do, what they wait for, and what an operator needs to know."""
