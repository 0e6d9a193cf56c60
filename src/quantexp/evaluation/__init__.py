"""One job: from items to scores."""
