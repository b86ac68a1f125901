"""What a campaign leaves in its folder: manifest, chained history, ledger and what is read back from them."""
