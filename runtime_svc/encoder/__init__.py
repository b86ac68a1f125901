"""A BERT-style sentence encoder (MiniLM) in NumPy: texts in, unit-length vectors out."""
