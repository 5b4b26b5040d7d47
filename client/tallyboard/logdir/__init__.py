"""What TensorBoard's writers have left in a logdir, brought to the service: once (import), or as it grows (watch).

scan → read → layouts → chunk: bytes of an event file become columns. files, names: what a logdir holds, and what its
runs are called. sessions, batches: columns become numbered batches, by rules about steps that go back. shipping, run:
batches go to the service, and with each the positions in the files that it covers. importing, watching, command: the
two commands.
"""
