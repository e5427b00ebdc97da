"""How a task is run, whatever it is: counts that resume, records, cards, reports (host)."""
