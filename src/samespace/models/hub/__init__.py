"""Model folders with a model card, kept on a disk or on the Hugging Face Hub."""
