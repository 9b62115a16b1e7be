"""The reward-KL frontier: the best reward at a distance from the base, and what rows leave."""
