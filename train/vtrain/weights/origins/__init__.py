"""How others name the tensors of their published weights; one file for each origin."""
