"""An administrator who saws at the branch that they sit on."""
