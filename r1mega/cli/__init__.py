"""The command `r1mega`: thin."""
