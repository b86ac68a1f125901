"""What a completion is held to while it is decoded: schemas, checked and written as grammars, followed by token."""
