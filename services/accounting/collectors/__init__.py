"""Where costs come from: each module reads one kind of bill, all in the same way."""
