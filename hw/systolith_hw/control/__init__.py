"""Fetch, queues, semaphores, sequencers, counters."""
