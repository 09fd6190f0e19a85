"""A changed file in the policy folder becomes a candidate."""
