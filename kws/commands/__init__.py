"""One module a command of `kws`: its options, and the one function that it calls. Heavy imports wait for their call."""
