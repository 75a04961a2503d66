"""Empirical privacy audits: gates that attack the product as it runs, and measure what an attacker could learn."""
