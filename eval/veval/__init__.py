"""Evaluation of video representations, each number with the protocol it was measured by."""
