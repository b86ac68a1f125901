"""The paper package: a campaign's tables, claims, captions and figures as files that a paper takes in."""
