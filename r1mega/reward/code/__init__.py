"""Code as a verifiable task: untrusted programs, run behind walls and judged from outside."""
