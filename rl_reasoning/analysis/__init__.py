"""What a policy is like beyond its accuracy: where its gradient moves probability, how large and how varied it is."""
