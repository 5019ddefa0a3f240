"""Training: one step under any layout, and what survives it."""

import r1mega.parallel  # noqa: F401  the CPU door has to be open before anything here imports megatron.core
