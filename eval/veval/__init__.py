"""Evaluation of video representations; each number comes with the protocol of its measurement."""
