"""The control plane against a simulated cluster: every order of events comes from one seed, and so can be played again."""
