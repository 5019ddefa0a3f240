"""r1mega: DeepSeek-R1, end to end, on Megatron-Core."""
