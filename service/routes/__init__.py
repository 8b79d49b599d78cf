"""HTTP's side of the service: a route reads, asks, and answers. There is no logic here."""
