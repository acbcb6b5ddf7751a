"""Workers as actors of Ray: the cluster, an actor for each worker, and the link to it."""
