"""Files of embeddings, and the searches that their rows ask for."""
