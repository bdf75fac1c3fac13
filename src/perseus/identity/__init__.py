"""Who is who: the cluster's own authority, certificates, join tokens and roles."""
