"""The whole bill: what answers, training and tuning cost, and what the cost buys."""
