"""Embedding large collections: photos in shards, over all processes, to files that ipad-rerank reads."""
