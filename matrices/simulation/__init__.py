"""Campaigns with a planted truth: do the intervals cover it as often as they say, and are the verdicts right?"""
