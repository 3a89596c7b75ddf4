"""What is learnt. `objective.py` states what all objectives have in common; `registry.py` lists them."""
