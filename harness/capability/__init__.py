"""What a method costs in capability: any row as a language model of lm-evaluation-harness."""
