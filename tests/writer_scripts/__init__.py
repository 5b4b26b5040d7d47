"""Scripts as users of tensorboardX write them: run as they are, and with another import."""
