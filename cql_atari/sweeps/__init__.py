"""Many runs as one: what to run, and engines that run it."""
