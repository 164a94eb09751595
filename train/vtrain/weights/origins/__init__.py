"""The tables that translate the tensor names of published weights; a file for each origin."""
