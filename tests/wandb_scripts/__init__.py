"""Scripts as users of wandb write them, in the style of its documentation: run with the import alone changed."""
