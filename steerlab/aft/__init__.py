"""Activation fine-tuning (AFT): vectors learned by gradient descent in a frozen model."""
